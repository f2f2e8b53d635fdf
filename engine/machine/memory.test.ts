import { describe, expect, it } from 'vitest';
import { addressesLeft, availableMemory, freeSwap, residentMemory } from './memory.js';

const GiB = 2 ** 30;
const meminfo = `MemTotal: ${16 * 2 ** 20} kB\nMemFree: 1 kB\nMemAvailable:   ${12 * 2 ** 20} kB\n`;

function memory(files: Record<string, string>) {
  const all: Record<string, string> = { '/proc/meminfo': meminfo, ...files };
  return availableMemory((path) => all[path]);
}

describe('availableMemory', () => {
  it('is the machine’s without a limit', () => {
    const machine = { total: 16 * GiB, available: 12 * GiB, limited: false };
    expect(memory({})).toEqual(machine);
    expect(memory({ '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/memory.max': 'max\n' })).toEqual(machine);
    const unlimited = { '/sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n' };
    expect(memory({ '/proc/self/cgroup': '7:memory:/\n', ...unlimited })).toEqual(machine);
  });

  it('is what the tightest group of cgroup v2 leaves, its inactive file cache included', () => {
    expect(
      memory({
        '/proc/self/cgroup': '0::/a/b\n',
        '/sys/fs/cgroup/a/b/memory.max': `${8 * GiB}\n`,
        '/sys/fs/cgroup/a/b/memory.current': `${1 * GiB}\n`,
        '/sys/fs/cgroup/a/memory.max': `${6 * GiB}\n`,
        '/sys/fs/cgroup/a/memory.current': `${3 * GiB}\n`,
        '/sys/fs/cgroup/a/memory.stat': `anon 7\ninactive_file ${2 * GiB}\n`,
      }),
    ).toEqual({ total: 6 * GiB, available: 5 * GiB, limited: true });
  });

  it('is what cgroup v1 leaves, and never more than the machine has free', () => {
    const files = {
      '/proc/self/cgroup': '7:memory:/docker/1f\n0::/\n',
      '/sys/fs/cgroup/memory/memory.limit_in_bytes': `${15 * GiB}\n`,
      '/sys/fs/cgroup/memory/memory.usage_in_bytes': `${1 * GiB}\n`,
    };
    expect(memory(files)).toEqual({ total: 15 * GiB, available: 12 * GiB, limited: true });
  });

  it('measures this machine', () => {
    const { total, available } = availableMemory();
    expect(available).toBeGreaterThan(0);
    expect(available).toBeLessThan(total);
  });
});

it('swap and addresses are as Linux tells them', () => {
  expect(freeSwap(() => 'SwapTotal: 9 kB\nSwapFree:   7 kB\n')).toBe(7 * 1024);
  expect(freeSwap(() => undefined)).toBe(0);
  const read = (limit: string) => (path: string) =>
    path === '/proc/self/limits'
      ? `Limit Soft Limit Hard Limit Units\nMax address space         ${limit} ${limit} bytes\n`
      : 'VmPeak:\t 900 kB\nVmSize:\t 300 kB\n';
  expect(addressesLeft(read('unlimited'))).toBe(Number.POSITIVE_INFINITY);
  expect(addressesLeft(read('1024000'))).toBe(700 * 1024);
  expect(addressesLeft(read('1024'))).toBe(0);
});

describe('residentMemory', () => {
  it('reads both marks, and does not take their absence for zero', () => {
    const status = () => 'VmPeak:\t 9 kB\nVmHWM:\t  300 kB\nVmRSS:\t  200 kB\n';
    expect(residentMemory('VmHWM', status)).toBe(300 * 1024);
    expect(residentMemory('VmRSS', status)).toBe(200 * 1024);
    expect(() => residentMemory('VmRSS', () => '')).toThrow('/proc/self/status does not say VmRSS');
  });
});
