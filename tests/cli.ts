import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { bundleModules } from './child.js';

const root = join(import.meta.dirname, '..');

/**
 * The command line compiled into a file of its own, so that tests can start, interrupt and kill it as a user would,
 * and need no dist/. It lies within the project, where its package.json, addon and dependencies are found.
 */
export class Cli {
  /** What to run with Node. */
  readonly file: string;

  private constructor(private readonly directory: string) {
    this.file = join(directory, 'tstrain.mjs');
  }

  static async compile(): Promise<Cli> {
    mkdirSync(join(root, 'build'), { recursive: true });
    const directory = mkdtempSync(join(root, 'build/cli-'));
    await bundleModules([join(root, 'bin/tstrain.ts')], directory, { packages: 'external', splitting: true });
    return new Cli(directory);
  }

  /** Starts `tstrain args` in the directory `cwd`, which also takes the place of the user's cache. */
  start(cwd: string, args: readonly string[], variables: NodeJS.ProcessEnv = {}): CliRun {
    const env = {
      ...process.env,
      XDG_CACHE_HOME: join(cwd, '.cache'),
      TSTRAIN_NUM_THREADS: '',
      ...variables,
    };
    return new CliRun(
      spawn(process.execPath, [this.file, ...args], {
        cwd,
        env,
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
    );
  }

  run(cwd: string, ...args: string[]): Promise<Ended> {
    return this.start(cwd, args).ended;
  }

  remove(): void {
    rmSync(this.directory, { recursive: true });
  }
}

export interface Ended {
  /** Exit status, or the signal that ended it. */
  status: number | NodeJS.Signals;
  stdout: string;
  stderr: string;
}

/** A running command. */
export class CliRun {
  stdout = '';
  stderr = '';
  readonly ended: Promise<Ended>;
  private over = false;
  private readonly watchers = new Set<() => void>();

  constructor(readonly child: ChildProcess) {
    child.stdout!.setEncoding('utf8').on('data', (text) => {
      this.stdout += text;
      for (const watch of this.watchers) watch();
    });
    child.stderr!.setEncoding('utf8').on('data', (text) => {
      this.stderr += text;
    });
    this.ended = new Promise((resolve, reject) => {
      child.on('error', reject).on('close', (code, signal) => {
        this.over = true;
        for (const watch of this.watchers) watch();
        resolve({ status: code ?? signal!, stdout: this.stdout, stderr: this.stderr });
      });
    });
  }

  /** Until `pattern` has been printed `times` times; false if the command ended before that. */
  printed(pattern: RegExp, times = 1): Promise<boolean> {
    const all = new RegExp(pattern, 'g');
    return new Promise((resolve) => {
      const watch = () => {
        const seen = (this.stdout.match(all)?.length ?? 0) >= times;
        if (!seen && !this.over) return;
        this.watchers.delete(watch);
        resolve(seen);
      };
      this.watchers.add(watch);
      watch();
    });
  }

  /** Sends the signal, unless the command has ended. */
  signal(signal: NodeJS.Signals): void {
    if (!this.over) this.child.kill(signal);
  }
}
