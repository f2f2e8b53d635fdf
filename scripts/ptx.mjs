// node scripts/ptx.mjs: makes the PTX that is committed, for machines that have a driver and no NVRTC. A driver refuses
// PTX newer than itself, so the oldest NVRTC makes it, for the oldest card.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { installNvrtc } from '../tests/cudasim/nvrtc.mjs';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const kernels = join(root, 'engine/native/cuda');
const build = join(root, 'build/ptx');

/** The files of kernels, without ".cu". */
export function kernelFiles() {
  return readdirSync(kernels)
    .filter((file) => file.endsWith('.cu'))
    .map((file) => file.slice(0, -3))
    .sort();
}

/** The PTX of that file which is committed. */
export function committed(file) {
  const path = join(kernels, 'ptx', `${file}.ptx`);
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
}

/** The program of ptx.cpp, in a folder named after all that it and its work are made of. */
function compiler() {
  const parts = ['nvrtc', 'driver', 'libraries'].map((part) => `engine/native/cuda/${part}`);
  const cpp = ['scripts/ptx.cpp', ...parts.map((part) => `${part}.cpp`)];
  const headers = ['engine/native/tensor.h', ...parts.map((part) => `${part}.h`)];
  const hash = createHash('sha256');
  for (const file of [...cpp, ...headers]) hash.update(readFileSync(join(root, file)));
  const folder = join(build, hash.digest('hex').slice(0, 16));
  const program = join(folder, 'ptx');
  if (!existsSync(program)) {
    mkdirSync(folder, { recursive: true });
    execFileSync('g++', ['-std=c++17', '-O1', '-o', `${program}.new`, ...cpp, '-ldl'], { cwd: root });
    renameSync(`${program}.new`, program);
  }
  return { folder, program };
}

/**
 * What NVRTC `version` makes of a file for an architecture (sm_80, compute_80): its PTX, and what the compiler says. Kept
 * until the source changes. Undefined where that NVRTC cannot be had.
 */
export function compiled(file, version, architecture, options = []) {
  const nvrtc = installNvrtc(version);
  if (nvrtc === undefined) return undefined;
  const { folder, program } = compiler();
  const hash = createHash('sha256').update(JSON.stringify([version, architecture, options]));
  for (const source of [`${file}.cu`, 'on_card.h']) hash.update(readFileSync(join(kernels, source)));
  const out = join(folder, hash.digest('hex').slice(0, 16));
  if (!existsSync(out)) {
    const fresh = `${out}.${process.pid}`;
    mkdirSync(fresh, { recursive: true });
    const env = { ...process.env, TSTRAIN_CUDA_PATH: nvrtc };
    execFileSync(program, [architecture, fresh, join(kernels, `${file}.cu`), '--', ...options], {
      env,
      stdio: ['ignore', 'inherit', 'pipe'],
      encoding: 'utf8',
    });
    rmSync(out, { recursive: true, force: true });
    renameSync(fresh, out);
  }
  const text = (kind) => readFileSync(join(out, `${file}.${kind}`), 'utf8');
  return { ptx: text('ptx'), log: text('log') };
}

/** What is to be committed for that file; undefined where its NVRTC cannot be had. */
export const toCommit = (file) => compiled(file, '12.0', 'compute_80')?.ptx;

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = join(kernels, 'ptx');
  const texts = kernelFiles().map((file) => [file, toCommit(file)]);
  if (texts.some(([, ptx]) => ptx === undefined)) process.exit(1);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  for (const [file, ptx] of texts) writeFileSync(join(folder, `${file}.ptx`), ptx);
}
