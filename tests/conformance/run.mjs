// Runs tfjs-core's own specs, which ship compiled in its npm package, against a backend.
//
//   node tests/conformance/run.mjs [--backend native|cpu] [--filter TEXT]
//
// Prints what passed, failed and was skipped, and how often each kernel fell back to the CPU reference backend.
// Exits with 1 when a spec fails, or when fewer pass than do on TF.js's own CPU backend.
import { mkdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import Jasmine from 'jasmine';

// What `--backend cpu` gives with the tfjs-core named in package.json; 5 are skipped there by the specs themselves.
const SPECS = 4227;

const { values } = parseArgs({
  options: { backend: { type: 'string', default: 'native' }, filter: { type: 'string' } },
});
const root = fileURLToPath(new URL('../..', import.meta.url));
const directory = join(root, 'build/conformance');
const bundle = join(directory, `${values.backend}.mjs`);
mkdirSync(directory, { recursive: true });

// Two specs, of data that move between backends, name the CPU backend because, they say, one has to be named.
const namedBackend = {
  name: 'the backend under test in the place of cpu',
  setup({ onLoad }) {
    onLoad({ filter: /tfjs-core\/dist\/engine_test\.js$/ }, ({ path }) => {
      let contents = readFileSync(path, 'utf8');
      for (const use of [
        "testEnv.backendName === 'cpu'",
        "findBackendFactory('cpu')",
        "getKernel('Add', 'cpu')",
      ]) {
        if (!contents.includes(use)) throw new Error(`${path} no longer says ${use}`);
        contents = contents.replaceAll(use, use.replace("'cpu'", `'${values.backend}'`));
      }
      return { contents, loader: 'js' };
    });
  },
};

await build({
  entryPoints: [join(root, 'tests/conformance/specs.js')],
  outfile: bundle,
  bundle: true,
  platform: 'node',
  format: 'esm',
  // The compiled specs and the sources they test must share one copy of tfjs-core: the ES modules. Its package.json
  // calls files free of side effects that register kernels and gradients.
  mainFields: ['module', 'main'],
  ignoreAnnotations: true,
  define: { BACKEND_UNDER_TEST: JSON.stringify(values.backend) },
  banner: {
    js: "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);",
  },
  // Not the bundle of build/, which has a copy of its own.
  alias: { '#tfjs-gradients': join(root, 'tests/conformance/gradients.js') },
  plugins: [namedBackend],
  logLevel: 'error',
});

const failures = [];
const count = { passed: 0, failed: 0, pending: 0, excluded: 0 };
const jasmine = new Jasmine({ projectBaseDir: root });
jasmine.exitOnCompletion = false;
jasmine.clearReporters();
jasmine.addReporter({
  specDone(spec) {
    count[spec.status]++;
    if (spec.status === 'failed') failures.push(spec);
  },
  suiteDone(suite) {
    if (suite.failedExpectations.length > 0) failures.push(suite);
  },
});
jasmine.loadConfig({ spec_files: [relative(root, bundle)], random: false });
const started = performance.now();
// Specs of TF.js's debug mode print tables.
const { log, warn } = console;
console.log = console.warn = () => {};
const { overallStatus } = await jasmine.execute(undefined, values.filter);
Object.assign(console, { log, warn });

for (const { fullName, failedExpectations } of failures) {
  console.log(`FAILED ${fullName}`);
  for (const { message, stack } of failedExpectations)
    console.log(`  ${message}\n${(stack ?? '').split('\n').slice(1, 6).join('\n')}`);
}
const { fallbackCounts } = await import(pathToFileURL(bundle).href);
const fallbacks = [...fallbackCounts()].sort(([a], [b]) => a.localeCompare(b));
if (fallbacks.length > 0)
  console.log(`fell back: ${fallbacks.map(([kernel, times]) => `${kernel} ${times}`).join(', ')}`);
console.log(
  `tfjs-core's specs on ${values.backend}: ${count.passed} passed, ${failures.length} failed, ` +
    `${count.pending} skipped in ${((performance.now() - started) / 1000).toFixed(0)} s`,
);
const short = values.filter === undefined && count.passed < SPECS;
if (short) console.log(`expected ${SPECS} to pass`);
process.exit(failures.length > 0 || short || !['passed', 'incomplete'].includes(overallStatus) ? 1 : 0);
