import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type Outcome, runDeclared } from './case_runner.js';
import { caseFiles, runOpCases } from './op_cases.js';

// node dist/tests/run_op_cases.js DEVICE, in a bundle, where case_runner.ts stands in vitest's place: all op cases on the
// device. Each file has a process of its own, for a card on which one kernel failed does nothing more in that one. A
// line of JSON after each, of all so far.

const [, , device, file] = process.argv;
if (file !== undefined) {
  await runOpCases({ devices: [device], files: [file] });
  console.log(JSON.stringify(await runDeclared()));
} else {
  const all: Outcome = { passed: 0, skipped: 0, failed: [] };
  for (const name of caseFiles()) {
    const words = [fileURLToPath(import.meta.url), device, name];
    const { stdout, stderr, signal } = spawnSync(process.execPath, words, {
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
    });
    const last = stdout.trim().split('\n').at(-1)!;
    if (last.startsWith('{')) {
      const { passed, skipped, failed } = JSON.parse(last) as Outcome;
      all.passed += passed;
      all.skipped += skipped;
      all.failed.push(...failed);
    } else {
      all.failed.push({ name, message: `${signal ?? 'no cases were run'}: ${stderr.trim().slice(-1000)}` });
    }
    console.log(JSON.stringify(all));
  }
}
