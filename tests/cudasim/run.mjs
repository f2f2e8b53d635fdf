// npm run cudasim -- COMMAND…: runs it on the simulated card. See README.md.
import { spawnSync } from 'node:child_process';
import { mkdirSync, realpathSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { installedNvrtc } from './nvrtc.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, '../..');
const libraries = resolve(root, 'build/cudasim/lib');

/**
 * Brings the simulated libraries up to date with their sources; throws when they do not compile.
 *
 * @param target of the Makefile: `checks` and `cublaslt_checks` have programs of cudasim's own tests too
 */
export function buildSimulator(target = 'all') {
  make(here, target);
}

/** Likewise, the programs of benchmarks/card. */
export function buildCardPrograms() {
  make(resolve(root, 'engine/native'), 'card');
}

function make(cwd, target) {
  const build = resolve(root, 'build/cudasim');
  mkdirSync(build, { recursive: true });
  // Test files that want it at the same time take turns.
  const words = ['make', '--no-print-directory', '-s', `-j${availableParallelism()}`, target];
  const options = { cwd, encoding: 'utf8' };
  const { status, stderr, error } = spawnSync('flock', [resolve(build, 'lock'), ...words], options);
  if (status !== 0) throw new Error(`make ${target} fails: ${error?.message ?? stderr}`);
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
    // Trying a product on simulated hardware tells nothing, and takes fifty times as long as the product.
    TSTRAIN_CUDA_TUNE: process.env.TSTRAIN_CUDA_TUNE ?? '0',
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
