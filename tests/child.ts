import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type BuildOptions, build } from 'esbuild';

/**
 * Compiles modules of the project into `directory`, for processes that import them from there. Where packages stay
 * outside (`packages: 'external'`), it lies within the project.
 */
export async function bundleModules(
  entryPoints: string[],
  directory: string,
  options: BuildOptions = {},
): Promise<void> {
  await build({
    entryPoints,
    outdir: directory,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    ...options,
  });
}

/** Runs JavaScript in a process of its own, in `directory`, from which it imports bundled modules. */
export function startScript(directory: string, script: string): ChildProcess {
  return spawn(process.execPath, ['--input-type=module', '-e', script], {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** kill -9, and wait until it is dead. */
export async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}
