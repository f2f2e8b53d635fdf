// npm run cudasim -- COMMAND…: runs it on the simulated card. See README.md.
import { spawnSync } from 'node:child_process';
import { realpathSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { installedNvrtc } from './nvrtc.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, '../..');
const libraries = resolve(root, 'build/cudasim/lib');

/** Brings the simulated libraries up to date with their sources; throws when they do not compile. */
export function buildSimulator() {
  const options = ['--no-print-directory', '-s', `-j${availableParallelism()}`];
  const { status, error } = spawnSync('make', options, { cwd: here, stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error('cudasim does not build, see above', { cause: error });
}

/**
 * What a process needs in its environment to have the simulated card.
 *
 * @param nvrtc the version to compile with, or null for none; without it the newest that was installed
 */
export function simulated(nvrtc) {
  const versions = nvrtc === null ? [] : nvrtc === undefined ? ['12.8', '12.0'] : [nvrtc];
  const compiler = versions.map(installedNvrtc).find((folder) => folder !== undefined);
  const old = process.env.LD_LIBRARY_PATH;
  return {
    LD_LIBRARY_PATH: old ? `${libraries}${delimiter}${old}` : libraries,
    TSTRAIN_CUDA_PATH:
      process.env.TSTRAIN_CUDA_PATH ?? (compiler ? `${libraries}${delimiter}${compiler}` : libraries),
  };
}

const [, script, command, ...args] = process.argv;
if (script !== undefined && realpathSync(script) === fileURLToPath(import.meta.url)) {
  if (command === undefined) {
    console.error('npm run cudasim -- COMMAND…');
    process.exit(1);
  }
  buildSimulator();
  const env = { ...process.env, ...simulated() };
  // tstrain is this one.
  const [program, first] =
    command === 'tstrain' ? [process.execPath, [resolve(root, 'dist/bin/tstrain.js')]] : [command, []];
  const { status, signal, error } = spawnSync(program, [...first, ...args], { env, stdio: 'inherit' });
  if (error) console.error(`cudasim: ${error.message}`);
  if (signal) console.error(`cudasim: ${command} ended by ${signal}`);
  process.exit(status ?? 1);
}
