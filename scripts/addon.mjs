// Builds the native addon, build/native/tstrain.node, with g++ and make: the install script of the package. It works
// where tstrain was installed, so it uses Node and node-api-headers alone.
import { spawnSync } from 'node:child_process';
import { realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const native = join(root, 'engine/native');
const compiler = process.env.CXX || 'g++';

/** Whether the shell's command succeeds: CXX may be more than one word. */
function succeeds(command) {
  return spawnSync(command, { shell: true, stdio: 'ignore' }).status === 0;
}

/** The tools that are needed and not there. */
export function missingTools() {
  return [compiler, 'make'].filter((tool) => !succeeds(`${tool} --version`));
}

/** Why the addon, which is brought up to date with its sources, cannot be built; what the compiler says goes to stderr. */
function fault({ strict }) {
  const missing = missingTools();
  if (missing.length > 0)
    return `it takes g++ and make, and there is no ${missing.join(' and no ')}; on Debian or Ubuntu: apt-get install g++ make`;
  if (!succeeds(`echo | ${compiler} -std=c++17 -fopenmp -march=x86-64-v4 -x c++ -E -`))
    return `it takes g++ 11 or newer, with OpenMP, and ${compiler} is not; the environment variable CXX names another`;
  const { include_dir } = createRequire(import.meta.url)('node-api-headers');
  const options = ['--no-print-directory', '-s', `-j${availableParallelism()}`];
  // Relative, as all paths in the Makefile: to make, a space ends a path.
  const variables = [`HEADERS=${relative(native, include_dir)}`, ...(strict ? [] : ['WERROR='])];
  const { status, error } = spawnSync('make', [...options, ...variables], { cwd: native, stdio: 'inherit' });
  return status === 0 ? undefined : (error?.message ?? 'the compiler stopped, see above');
}

/**
 * Brings the addon up to date with its sources, or says on stderr why it cannot.
 *
 * @param strict whether a warning is an error: who installs the package may have a compiler that came after it
 * @returns whether it is up to date
 */
export function buildAddon(options) {
  const reason = fault(options);
  if (reason !== undefined) console.error(`tstrain: the native addon cannot be built: ${reason}`);
  return reason === undefined;
}

const [, script] = process.argv;
const isMain = script !== undefined && realpathSync(script) === fileURLToPath(import.meta.url);
if (isMain && !buildAddon({ strict: false })) process.exit(1);
