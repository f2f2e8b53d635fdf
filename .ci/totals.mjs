// The closing line of .ci/run: `N passed, N failed, N skipped`, of `npm test`, TF.js's own specs and the simulated card
// together. The op cases under the sanitizers are a part of `npm test` run a second time, so they are not counted again.
import { existsSync, readFileSync } from 'node:fs';

const [testsFile, conformanceFile, cardSpecsFile, ...cardFiles] = process.argv.slice(2);
const total = { passed: 0, failed: 0, skipped: 0 };
const missing = [];

if (existsSync(testsFile)) {
  const tests = JSON.parse(readFileSync(testsFile, 'utf8'));
  total.passed += tests.numPassedTests;
  total.failed += tests.numFailedTests;
  total.skipped += tests.numPendingTests + tests.numTodoTests;
  // A file that fails before its first test has none to count.
  for (const { status, assertionResults } of tests.testResults)
    if (status === 'failed' && !assertionResults.some((result) => result.status === 'failed')) total.failed++;
} else missing.push('npm test');

// What those runs leave out by name is no test of theirs.
for (const file of cardFiles) {
  if (!existsSync(file)) {
    missing.push('the simulated card');
    continue;
  }
  const tests = JSON.parse(readFileSync(file, 'utf8'));
  total.passed += tests.numPassedTests;
  total.failed += tests.numFailedTests;
}

for (const [file, name] of [
  [conformanceFile, "TF.js's own specs"],
  [cardSpecsFile, "TF.js's own specs on the simulated card"],
]) {
  const specs = /(\d+) passed, (\d+) failed, (\d+) skipped/.exec(
    existsSync(file) ? readFileSync(file, 'utf8') : '',
  );
  if (specs !== null) {
    const [passed, failed, skipped] = specs.slice(1).map(Number);
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
  } else missing.push(name);
}

for (const name of missing) console.log(`${name}: ended without a result`);
console.log(
  `${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`,
);
process.exit(missing.length > 0 ? 1 : 0);
