import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

// The op cases and the training goldens on a device that is not the CPU (toy.cpp): whatever passes here looks at the
// memory of no device, waits for a device where it must, and knows no rule of the CPU.
const root = join(import.meta.dirname, '../..');
execFileSync('make', ['--no-print-directory', '-s', '-C', join(root, 'engine/native'), 'toy'], {
  stdio: 'inherit',
});
process.env.TSTRAIN_ADDON = join(root, 'build/native-toy/tstrain.node');
process.env.TSTRAIN_DEVICE = 'toy';

const { runOpCases } = await import('../op_cases.js');
const { addon, defaultDevice, setDevice } = await import('../../engine/device/addon.js');
const { NativeTensor } = await import('../../engine/device/native_tensor.js');

describe('the toy device', () => {
  const KIB = 1024;
  const statusKiB = (name: string) =>
    Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))![1]);

  it('is the default of this process alone', () => {
    expect(addon.devices()).toEqual(['cpu', 'toy']);
    expect(defaultDevice()).toBe('toy');
    expect(() => setDevice('cpu')).toThrow(
      'setDevice: toy is in use; cpu must be named before the first tensor or model',
    );
  });

  it('has memory that nobody else can access', () => {
    NativeTensor.from('toy', Float32Array.of(1)).dispose();
    const mapping = readFileSync('/proc/self/maps', 'utf8')
      .split('\n')
      .map((line) => /^([0-9a-f]+)-([0-9a-f]+) (\S+)/.exec(line))
      .filter((m) => m && Number(`0x${m[2]}`) - Number(`0x${m[1]}`) === 2 ** 37);
    expect(mapping.map((m) => m![3])).toEqual(['---p']);
  });

  it('does nothing until somebody waits', () => {
    const x = NativeTensor.onHeap('toy', 'float32', [16 * KIB * KIB]);
    const before = statusKiB('VmRSS');
    addon.ops.fill({ y: x, n: x.size, value: 3 });
    expect(statusKiB('VmRSS') - before).toBeLessThan(16 * KIB);
    const last = x.view([1], x.size - 1);
    expect([...last.floats()]).toEqual([3]);
    expect(statusKiB('VmRSS') - before).toBeGreaterThan(48 * KIB);
    for (const t of [last, x]) t.dispose();
  });

  it('gives values while JavaScript goes on, whatever becomes of their tensor', async () => {
    const x = NativeTensor.from('toy', Float32Array.of(1, 2, 3));
    const y = NativeTensor.inArena('toy', 'bfloat16', [3]);
    addon.ops.cast({ y, x, n: 3 });
    let goesOn = false;
    setImmediate(() => {
      goesOn = true;
    });
    const values = y.fetch();
    y.dispose();
    const other = NativeTensor.inArena('toy', 'bfloat16', [3]);
    addon.ops.fill({ y: other, n: 3, value: 7 });
    expect([...(await values)]).toEqual([1, 2, 3]);
    expect(goesOn).toBe(true);
    for (const t of [other, x]) t.dispose();
    expect(addon.stats('toy')).toMatchObject({ arenaInUse: 0, heapBytes: 0 });
  });
});

await runOpCases({ devices: ['toy'] });

describe('training on the toy device', async () => {
  await import('../../engine/train/loop.test.js');
});
