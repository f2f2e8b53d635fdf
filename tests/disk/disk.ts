import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Cli, Ended } from '../cli.js';

const root = join(import.meta.dirname, '../..');

/**
 * Calls of one kind on one path, or with `*` for both whatever changes the disk, that are to fail with an errno: the
 * `from`-th to the `until`-th. See shim.cpp.
 */
export interface Fault {
  call: string;
  path: string;
  from: number;
  until: number;
  errno: number;
}

/** Runs commands on a disk that is watched (shim.cpp), in processes of their own. */
export class Disk {
  private readonly folder = mkdtempSync(join(tmpdir(), 'tstrain-disk-'));
  private readonly shim = join(this.folder, 'shim.so');

  constructor(private readonly cli: Cli) {
    mkdirSync(this.folder, { recursive: true });
    const flags = ['-std=c++17', '-O1', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC'];
    execFileSync('g++', [...flags, '-o', this.shim, join(root, 'tests/disk/shim.cpp'), '-ldl']);
  }

  /** Runs `tstrain args` in `directory`, the root of what is watched. @returns how it ended, and the lines of its log */
  async run(
    directory: string,
    args: readonly string[],
    fault?: Fault | 'none',
  ): Promise<Ended & { log: string[][] }> {
    const log = join(this.folder, 'log');
    rmSync(log, { force: true });
    const ended = await this.cli.start(directory, args, {
      LD_PRELOAD: this.shim,
      TSTRAIN_DISK_ROOT: directory,
      TSTRAIN_DISK_LOG: log,
      TSTRAIN_DISK_FAULT:
        typeof fault === 'object'
          ? [fault.call, fault.path, fault.from, fault.errno, fault.until].join('\t')
          : fault,
    }).ended;
    if (!existsSync(log)) throw new Error(`nothing was watched: ${ended.stderr}`);
    const lines = readFileSync(log, 'utf8').trimEnd().split('\n');
    return { ...ended, log: lines.map((line) => line.split('\t')) };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true });
  }
}
