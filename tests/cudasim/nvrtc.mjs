// NVRTC for the tests: NVIDIA's compiler runs without a card. From PyPI into build/nvrtc/VERSION.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const build = resolve(dirname(fileURLToPath(import.meta.url)), '../../build/nvrtc');

/** The oldest that knows sm_90a, by which the committed PTX is made, and the oldest that knows sm_120. */
export const releases = { '12.0': '12.0.140', 12.8: '12.8.93' };

const library = (root) => join(root, 'nvidia/cuda_nvrtc/lib/libnvrtc.so.12');

function run(command, ...args) {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw error ?? new Error(stderr.trim().split('\n').at(-1));
}

/** The folder that TSTRAIN_CUDA_PATH takes for NVRTC `version`, or undefined when it was not installed. */
export function installedNvrtc(version) {
  const root = join(build, version);
  return existsSync(library(root)) ? root : undefined;
}

/** Installs NVRTC `version` if it is not, and returns its folder; says on stderr why where it cannot be had. */
export function installNvrtc(version) {
  mkdirSync(build, { recursive: true });
  // Test files that want it at the same time take turns.
  const words = [join(build, 'lock'), process.execPath, fileURLToPath(import.meta.url), version];
  if (installedNvrtc(version) === undefined)
    spawnSync('flock', words, { stdio: ['ignore', 'ignore', 'inherit'] });
  return installedNvrtc(version);
}

function install(version) {
  const installed = installedNvrtc(version);
  if (installed !== undefined) return installed;
  const [root, fresh, venv] = [join(build, version), join(build, `${version}.new`), join(build, 'venv')];
  const name = `nvidia-cuda-nvrtc-cu12==${releases[version]}`;
  // What many test files want is not tried again by each of them: without a network that takes half a minute.
  const failure = join(build, `${version}.failed`);
  if (existsSync(failure) && Date.now() - statSync(failure).mtimeMs < 10 * 60_000) {
    console.error(readFileSync(failure, 'utf8'));
    return undefined;
  }
  try {
    mkdirSync(build, { recursive: true });
    run('python3', '-m', 'venv', venv);
    rmSync(fresh, { recursive: true, force: true });
    run(join(venv, 'bin/pip'), 'install', '--quiet', '--no-deps', '--target', fresh, name);
    rmSync(root, { recursive: true, force: true });
    renameSync(fresh, root);
    return root;
  } catch (error) {
    const why = `cudasim: ${name} cannot be had (it needs python3-venv, and PyPI): ${error.message}`;
    writeFileSync(failure, why);
    console.error(why);
    return undefined;
  }
}

const [, script, ...versions] = process.argv;
if (script === fileURLToPath(import.meta.url))
  for (const version of versions.length > 0 ? versions : Object.keys(releases))
    console.log(install(version) ?? `no NVRTC ${version}`);
