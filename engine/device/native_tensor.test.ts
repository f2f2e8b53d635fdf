import { describe, expect, it } from 'vitest';
import { addon, type DeviceName, defaultDevice, metaOf } from './addon.js';
import { NativeTensor } from './native_tensor.js';

describe('NativeTensor', () => {
  it('keeps the memory until the last view is gone, and gives it back then', () => {
    const before = addon.stats(defaultDevice()).heapBytes;
    const whole = NativeTensor.from(defaultDevice(), Float32Array.of(1, 2, 3, 4, 5, 6));
    const tail = whole.view([2, 2], 2);
    whole.dispose();
    expect([...tail.floats()]).toEqual([3, 4, 5, 6]);
    tail.dispose();
    expect(addon.stats(defaultDevice()).heapBytes).toBe(before);
  });

  it('says so when a tensor is used after dispose, even if its slot is taken again', () => {
    const gone = NativeTensor.from(defaultDevice(), Float32Array.of(1));
    gone.dispose();
    const other = NativeTensor.from(defaultDevice(), Float32Array.of(2));
    expect(() => gone.read()).toThrow('the buffer was released, or never existed');
    other.dispose();
  });

  it('says by a code that there is no memory', () => {
    const tooLarge = () => NativeTensor.onHeap('cpu', 'uint8', [2 ** 50]);
    expect(tooLarge).toThrow('out of memory: cannot allocate 1125899906842624 bytes');
    expect(tooLarge).toThrow(expect.objectContaining({ code: 'OUT_OF_MEMORY' }));
  });

  it('rounds to bfloat16 by nearest even', () => {
    const t = NativeTensor.onHeap(defaultDevice(), 'bfloat16', [5]);
    // 1 + 2^-8 is half way between 1 and 1 + 2^-7; 1 + 3·2^-8 half way between 1 + 2^-7 and 1 + 2^-6.
    t.write(Float32Array.of(1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, Number.NaN, -3.4e38));
    expect([...t.floats()]).toEqual([1, 1, 1 + 2 ** -6, Number.NaN, Number.NEGATIVE_INFINITY]);
    t.dispose();
  });

  it('names the op and the tensor when a call does not fit', () => {
    const x = NativeTensor.from(defaultDevice(), new Float32Array(6));
    const meta = NativeTensor.onHeap(metaOf(defaultDevice()), 'float32', [6]);
    const sizes = { n: 6, a: 1, b: 0 };
    expect(() => addon.ops.axpby({ y: x, x, ...sizes, n: 7 })).toThrow('axpby: y has 6 elements, needs 7');
    expect(() => addon.ops.axpby({ y: x, x: meta, ...sizes })).toThrow(
      'axpby: x: tensors of one op are on two devices',
    );
    x.dispose();
    meta.dispose();
  });
});

describe('the arena', () => {
  it('has the same high-water mark on meta as on the CPU', () => {
    const run = (device: DeviceName) => {
      addon.resetStats(device);
      const a = NativeTensor.inArena(device, 'float32', [1000]);
      const b = NativeTensor.inArena(device, 'bfloat16', [3, 77]);
      a.dispose();
      const c = NativeTensor.inArena(device, 'float32', [900]);
      const d = NativeTensor.inArena(device, 'float32', [1200]);
      for (const t of [b, c, d]) t.dispose();
      return addon.stats(device).arenaHighWater;
    };
    expect(run(defaultDevice())).toBe(run(metaOf(defaultDevice())));
    // a and b, 256-byte steps: 4,096 + 512; c goes where a was; d goes behind b: 4,864.
    expect(run(defaultDevice())).toBe(4096 + 512 + 4864);
  });

  it('places as if new once it is empty, whatever it held before', () => {
    const highWater = (...earlier: number[]) => {
      addon.resetStats(metaOf(defaultDevice()));
      for (const bytes of earlier) NativeTensor.inArena(metaOf(defaultDevice()), 'uint8', [bytes]).dispose();
      const [a, b] = [2048, 512].map((bytes) =>
        NativeTensor.inArena(metaOf(defaultDevice()), 'uint8', [bytes]),
      );
      a.dispose();
      // Fits where a was, and would as well behind b: in what an earlier, larger tensor has left.
      const c = NativeTensor.inArena(metaOf(defaultDevice()), 'uint8', [1024]);
      const d = NativeTensor.inArena(metaOf(defaultDevice()), 'uint8', [3072]);
      const { arenaHighWater } = addon.stats(metaOf(defaultDevice()));
      for (const t of [b, c, d]) t.dispose();
      return arenaHighWater;
    };
    expect(highWater()).toBe(2048 + 512 + 3072);
    // A stretch of 1,536 bytes behind b would fit c better than the 2,048 that a leaves, and push d up.
    expect(highWater(4096)).toBe(highWater());
    addon.resetStats(metaOf(defaultDevice()));
  });

  it('tells how much of its high-water mark was workspace', () => {
    addon.resetStats(metaOf(defaultDevice()));
    const n = 3 * 4096;
    const x = NativeTensor.inArena(metaOf(defaultDevice()), 'float32', [n]);
    const sum = NativeTensor.inArena(metaOf(defaultDevice()), 'float64', [1]);
    expect(addon.stats(metaOf(defaultDevice())).arenaWorkspace).toBe(0);
    addon.ops.sum({ out: sum, x, n });
    // One float64 for each of the three blocks, in steps of 256 bytes.
    expect(addon.stats(metaOf(defaultDevice()))).toMatchObject({
      arenaHighWater: 4 * n + 512,
      arenaWorkspace: 256,
    });
    for (const t of [x, sum]) t.dispose();
    expect(addon.stats(metaOf(defaultDevice())).arenaInUse).toBe(0);
    addon.resetStats(metaOf(defaultDevice()));
  });
});
