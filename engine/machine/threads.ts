import { availableParallelism } from 'node:os';
import { UserError } from '../../errors.js';
import { controlGroups, kernelFile, type ReadFile } from './cgroup.js';

/** The processors this process may use, and what each bound says. */
export interface Cores {
  /** Hardware threads in the process's affinity mask. */
  logical: number;
  /** Cores these belong to: two hardware threads of one core share its multipliers. */
  physical: number;
  /** CPUs' worth of time that control groups grant; `undefined` without a limit. */
  quota: number | undefined;
  /** The physical cores this process can keep busy: whole ones, at least 1. */
  usable: number;
}

/** Counts the cores by affinity, topology, and control group quota (v1 and v2). */
export function availableCores(read: ReadFile = kernelFile): Cores {
  const allowed = /^Cpus_allowed_list:\s*(\S+)/m.exec(read('/proc/self/status') ?? '')?.[1];
  const cpus = allowed === undefined ? range(0, availableParallelism() - 1) : cpuList(allowed);
  const siblings = cpus.map((cpu) => {
    const topology = `/sys/devices/system/cpu/cpu${cpu}/topology`;
    // Without a topology (some sandboxes have no /sys) each hardware thread counts as a core.
    return read(`${topology}/core_cpus_list`) ?? read(`${topology}/thread_siblings_list`) ?? String(cpu);
  });
  const physical = new Set(siblings.map((list) => list.trim())).size;
  const quota = cpuQuota(read);
  // Rounded down: a thread that is throttled at every period keeps all others waiting at each barrier.
  const usable = Math.max(1, Math.min(physical, Math.floor(quota ?? physical)));
  return { logical: cpus.length, physical, quota, usable };
}

/** What a number of threads may be, wherever one is given: {@link isThreadCount} in words. */
export const THREAD_COUNT = 'a whole number from 1 to 1024';

export function isThreadCount(n: number): boolean {
  return Number.isInteger(n) && n >= 1 && n <= 1024;
}

/**
 * The threads that `TSTRAIN_NUM_THREADS` asks for, if it is set.
 *
 * @throws UserError when it holds anything but a number of threads
 */
export function environmentThreads(env: NodeJS.ProcessEnv = process.env): number | undefined {
  const text = env.TSTRAIN_NUM_THREADS;
  if (text === undefined || text === '') return undefined;
  const threads = Number(text);
  if (isThreadCount(threads)) return threads;
  throw new UserError(`TSTRAIN_NUM_THREADS: expected ${THREAD_COUNT}, got "${text}"`);
}

/**
 * Threads to compute with where a config names none: `TSTRAIN_NUM_THREADS`, else the usable physical cores, or as many
 * of them as OpenMP's own `OMP_THREAD_LIMIT` leaves.
 */
export function defaultThreads(env: NodeJS.ProcessEnv = process.env, read: ReadFile = kernelFile): number {
  const asked = environmentThreads(env);
  if (asked !== undefined) return asked;
  const limit = Number(env.OMP_THREAD_LIMIT);
  const { usable } = availableCores(read);
  return isThreadCount(limit) ? Math.min(usable, limit) : usable;
}

function cpuQuota(read: ReadFile): number | undefined {
  let least: number | undefined;
  for (const { version, directory } of controlGroups('cpu', read)) {
    const [quota, period] =
      version === 2
        ? (read(`${directory}/cpu.max`) ?? '').trim().split(' ')
        : [read(`${directory}/cpu.cfs_quota_us`), read(`${directory}/cpu.cfs_period_us`)];
    // "max" (v2) and -1 (v1) mean no limit.
    const cpus = Number(quota) / Number(period);
    if (cpus > 0) least = Math.min(least ?? cpus, cpus);
  }
  return least;
}

/** `0-2,7` as [0, 1, 2, 7]. */
function cpuList(text: string): number[] {
  return text.split(',').flatMap((part) => {
    const [first, last = first] = part.split('-').map(Number);
    return range(first, last);
  });
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
