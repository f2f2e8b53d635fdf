import { describe, expect, it } from 'vitest';
import { UserError } from '../../errors.js';
import { availableCores, defaultThreads } from './threads.js';

/** A machine whose cpu `c` shares a core with `c + n/2`, and what else the kernel says of it. */
function machine(n: number, files: Record<string, string> = {}) {
  const all: Record<string, string> = {
    '/proc/self/status': `Name:\tnode\nCpus_allowed_list:\t0-${n - 1}\n`,
  };
  for (let cpu = 0; cpu < n; cpu++)
    all[`/sys/devices/system/cpu/cpu${cpu}/topology/core_cpus_list`] =
      `${cpu % (n / 2)},${(cpu % (n / 2)) + n / 2}\n`;
  Object.assign(all, files);
  return (path: string) => all[path];
}

describe('availableCores', () => {
  it('counts two hardware threads of a core once', () => {
    expect(availableCores(machine(8))).toEqual({ logical: 8, physical: 4, quota: undefined, usable: 4 });
  });

  it('keeps to the affinity mask', () => {
    const cores = (list: string) =>
      availableCores(machine(8, { '/proc/self/status': `Cpus_allowed_list:\t${list}\n` }));
    expect(cores('0-2,6')).toMatchObject({ logical: 4, physical: 3, usable: 3 });
    expect(cores('1,5')).toMatchObject({ logical: 2, physical: 1, usable: 1 });
  });

  it('reads the siblings under their old name, and counts hardware threads where there is no topology', () => {
    const status = { '/proc/self/status': 'Cpus_allowed_list:\t0-1\n' };
    const topology = '/sys/devices/system/cpu/cpu';
    const old: Record<string, string> = {
      ...status,
      [`${topology}0/topology/thread_siblings_list`]: '0-1',
      [`${topology}1/topology/thread_siblings_list`]: '0-1',
    };
    expect(availableCores((path) => old[path]).physical).toBe(1);
    expect(availableCores((path) => (status as Record<string, string>)[path]).physical).toBe(2);
  });

  it.each([
    ['400000 100000\n', 4, 4],
    ['250000 100000\n', 2.5, 2],
    ['50000 100000\n', 0.5, 1],
    ['max 100000\n', undefined, 8],
  ])('quota of cgroup v2: %j', (max, quota, usable) => {
    const read = machine(16, { '/proc/self/cgroup': '0::/a/b\n', '/sys/fs/cgroup/a/b/cpu.max': max });
    expect(availableCores(read)).toMatchObject({ quota, usable });
  });

  it('takes the tightest of the groups around the process', () => {
    const read = machine(16, {
      '/proc/self/cgroup': '0::/a/b\n',
      '/sys/fs/cgroup/a/b/cpu.max': '600000 100000\n',
      '/sys/fs/cgroup/a/cpu.max': '300000 100000\n',
      '/sys/fs/cgroup/cpu.max': 'max 100000\n',
    });
    expect(availableCores(read)).toMatchObject({ quota: 3, usable: 3 });
  });

  it('quota of cgroup v1, where the path is the host’s and the mount shows the container alone', () => {
    const read = machine(16, {
      '/proc/self/cgroup': '5:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n0::/\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '200000\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
    });
    expect(availableCores(read)).toMatchObject({ quota: 2, usable: 2 });
  });

  it('no quota of cgroup v1', () => {
    const read = machine(4, {
      '/proc/self/cgroup': '4:cpu:/\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
    });
    expect(availableCores(read)).toMatchObject({ quota: undefined, usable: 2 });
  });

  it('finds at least one core on this machine', () => {
    const cores = availableCores();
    expect(cores.usable).toBeGreaterThanOrEqual(1);
    expect(cores.physical).toBeLessThanOrEqual(cores.logical);
  });
});

describe('defaultThreads', () => {
  it('is the number of usable cores, or what TSTRAIN_NUM_THREADS says', () => {
    expect(defaultThreads({}, machine(8))).toBe(4);
    expect(defaultThreads({ TSTRAIN_NUM_THREADS: '' }, machine(8))).toBe(4);
    expect(defaultThreads({ TSTRAIN_NUM_THREADS: '7' }, machine(8))).toBe(7);
  });

  it('is no more than OpenMP allows', () => {
    expect(defaultThreads({ OMP_THREAD_LIMIT: '3' }, machine(8))).toBe(3);
    expect(defaultThreads({ OMP_THREAD_LIMIT: '5' }, machine(8))).toBe(4);
  });

  it.each(['0', '1.5', 'two', '-1', '1025'])('refuses TSTRAIN_NUM_THREADS=%s', (text) => {
    expect(() => defaultThreads({ TSTRAIN_NUM_THREADS: text })).toThrow(
      new UserError(`TSTRAIN_NUM_THREADS: expected a whole number from 1 to 1024, got "${text}"`),
    );
  });
});
