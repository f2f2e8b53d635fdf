import { controlGroups, kernelFile, type ReadFile } from './cgroup.js';

/** Bytes of memory of the machine, or of the control group where that allows less. */
export interface Memory {
  total: number;
  /** What can still be taken without swapping; file cache that the kernel would give up counts as available. */
  available: number;
  /** Whether a control group, not the machine, sets `total`. */
  limited: boolean;
}

/** Measures the memory this process may use, by /proc/meminfo and control groups (v1 and v2). */
export function availableMemory(read: ReadFile = kernelFile): Memory {
  const meminfo = read('/proc/meminfo') ?? '';
  const machine = field(meminfo, 'MemTotal:') * 1024;
  const memory = { total: machine, available: field(meminfo, 'MemAvailable:') * 1024, limited: false };
  for (const { version, directory } of controlGroups('memory', read)) {
    const [limitFile, usageFile, cacheField] =
      version === 2
        ? ['memory.max', 'memory.current', 'inactive_file']
        : ['memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'];
    const limit = Number(read(`${directory}/${limitFile}`) ?? Number.NaN);
    // "max" (v2) is not a number, and "no limit" of v1 is larger than any machine.
    if (!(limit < machine)) continue;
    const used = Number(read(`${directory}/${usageFile}`) ?? 0);
    const cache = field(read(`${directory}/memory.stat`) ?? '', cacheField);
    memory.total = Math.min(memory.total, limit);
    memory.available = Math.min(memory.available, Math.max(0, limit - used + cache));
    memory.limited = true;
  }
  return memory;
}

/** Bytes of swap space that are free on the machine, whatever control groups allow of it. */
export function freeSwap(read: ReadFile = kernelFile): number {
  return field(read('/proc/meminfo') ?? '', 'SwapFree:') * 1024;
}

/** Bytes of addresses that `ulimit -v` leaves this process; Infinity without a limit. */
export function addressesLeft(read: ReadFile = kernelFile): number {
  const limit = field(read('/proc/self/limits') ?? '', 'Max address space');
  // "unlimited" is not a number, and a limit of 0 would not let anything run.
  if (limit === 0) return Number.POSITIVE_INFINITY;
  return Math.max(0, limit - field(read('/proc/self/status') ?? '', 'VmSize:') * 1024);
}

/** Bytes in words, with one decimal. */
export function bytesText(n: number): string {
  return n < 2 ** 30 ? `${(n / 2 ** 20).toFixed(1)} MiB` : `${(n / 2 ** 30).toFixed(1)} GiB`;
}

/** Bytes of this process in memory: now (VmRSS), or the most since it began or the mark was reset (VmHWM). */
export function residentMemory(mark: 'VmRSS' | 'VmHWM', read: ReadFile = kernelFile): number {
  const bytes = field(read('/proc/self/status') ?? '', `${mark}:`) * 1024;
  // A bound must not be met because nothing was measured.
  if (bytes === 0) throw new Error(`/proc/self/status does not say ${mark}`);
  return bytes;
}

function field(text: string, name: string): number {
  return Number(new RegExp(`^${name}\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0);
}
