import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  bfloat16Bits,
  bytesOf,
  empty,
  expectClose,
  expectSameBytes,
  FLOATS,
  itRefuses,
  normal,
  type OpCases,
  Random,
  ROUNDING,
  tensor,
  valuesOf,
  withThreads,
} from '../../tests/op_cases.js';
import { readSafetensors } from '../../tests/read_safetensors.js';
import { addon, metaOf } from '../device/addon.js';

// Over 16384 elements the work is shared out among threads; sums are cut every 4096.
const SIZES = [1, 3, 17, 65, 4095, 4096, 4097, 20001];

export const cases: OpCases = (device) => {
  describe.each(FLOATS)('%s', (type) => {
    it.each(SIZES)('axpby of %i', (n) => {
      const random = new Random(n);
      const x = normal(device, type, random, [n]);
      const [fx, [a, b]] = [valuesOf(x), [0.75, -1.3]];
      for (const other of FLOATS) {
        const z = normal(device, other, random, [n]);
        const fz = valuesOf(z);
        for (const result of FLOATS) {
          // a and b are rounded to float32 first; the products may cancel.
          const rounded = { relative: ROUNDING[result], absolute: 1e-6 };
          const y = empty(device, result, [n]);
          addon.ops.axpby({ y, x, z, n, a, b });
          const expected = fx.map((v, i) => a * v + b * fz[i]);
          expectClose(valuesOf(y), expected, rounded);
          addon.ops.axpby({ y, x, n, a, b });
          expectClose(
            valuesOf(y),
            fx.map((v) => a * v),
            rounded,
          );
          if (other === result) {
            addon.ops.axpby({ y: z, x, z, n, a, b });
            expectClose(valuesOf(z), expected, rounded, 'over z');
            z.copyRaw(bytesOf(tensor(device, other, fz)), 0, 'toDevice');
          }
        }
      }
      addon.ops.axpby({ y: x, x, z: x, n, a: 0.5, b: 0.25 });
      expect([...valuesOf(x)]).toEqual([
        ...valuesOf(
          tensor(
            device,
            type,
            fx.map((v) => 0.75 * v),
          ),
        ),
      ]);
    });

    it.each(SIZES)('sum and sum of squares of %i', (n) => {
      // Whole numbers: the float64 sums are exact, in any order.
      const random = new Random(n);
      const values = Array.from({ length: n }, () => random.below(255) - 127);
      const x = tensor(device, type, values);
      const out = empty(device, 'float64', [1]);
      addon.ops.sum({ out, x, n });
      expect(valuesOf(out)[0]).toBe(values.reduce((sum, v) => sum + v, 0));
      addon.ops.sum_squares({ out, x, n });
      expect(valuesOf(out)[0]).toBe(values.reduce((sum, v) => sum + v * v, 0));
    });

    it('sums do not depend on the number of threads', () => {
      const x = normal(device, type, new Random(1), [100003]);
      for (const name of ['sum', 'sum_squares'] as const) {
        const [one, two, three] = [1, 2, 3].map((threads) => {
          const out = empty(device, 'float64', [1]);
          withThreads(threads, () => addon.ops[name]({ out, x, n: x.size }));
          return out;
        });
        expectSameBytes(two, one, name);
        expectSameBytes(three, one, name);
        // 10⁵ additions in float64.
        const square = name === 'sum' ? (v: number) => v : (v: number) => v * v;
        const expected = valuesOf(x).reduce((sum, v) => sum + square(v), 0);
        expectClose(valuesOf(one), [expected], { relative: 1e-10, absolute: 1e-9 }, name);
      }
    });
  });

  it('the sum of nothing is 0, of a NaN is a NaN, and of large squares does not overflow', () => {
    const out = empty(device, 'float64', [1]);
    addon.ops.sum({ out, x: empty(device, 'float32', [0]), n: 0 });
    expect(valuesOf(out)[0]).toBe(0);
    addon.ops.sum_squares({ out, x: tensor(device, 'float32', [1, Number.NaN, 1]), n: 3 });
    expect(valuesOf(out)[0]).toBeNaN();
    addon.ops.sum_squares({ out, x: tensor(device, 'float32', [2 ** 100, 2 ** 100]), n: 2 });
    expect(valuesOf(out)[0]).toBe(2 ** 201);
  });

  describe('cast', () => {
    const special = [
      0,
      -0,
      1,
      -1,
      2 ** -126,
      2 ** -149,
      3.3895313892515355e38,
      Infinity,
      -Infinity,
      Number.NaN,
    ];

    it.each(SIZES)('%i float32 to bfloat16 and back', (n) => {
      const random = new Random(n);
      const x = tensor(
        device,
        'float32',
        Array.from({ length: n }, (_, i) => special[i] ?? random.normal() * 10 ** (random.below(60) - 30)),
      );
      const half = empty(device, 'bfloat16', [n]);
      addon.ops.cast({ y: half, x, n });
      const bits = new Uint16Array(bytesOf(half).buffer);
      expect([...bits]).toEqual([...valuesOf(x)].map(bfloat16Bits));
      const back = empty(device, 'float32', [n]);
      addon.ops.cast({ y: back, x: half, n });
      expect([...valuesOf(back)]).toEqual([...valuesOf(half)]);
    });

    it('rounds to bfloat16 as PyTorch does, bit by bit', () => {
      const file = readSafetensors(
        join(import.meta.dirname, '../../tests/fixtures/checkpoint/rounding.safetensors'),
      );
      const x = tensor(device, 'float32', file.get('f32')!.data);
      const half = empty(device, 'bfloat16', [x.size]);
      addon.ops.cast({ y: half, x, n: x.size });
      expect([...valuesOf(half)]).toEqual([...file.get('bf16')!.data]);
    });

    it('every bfloat16 that there is, to float32 and back', () => {
      const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
      const half = empty(device, 'bfloat16', [65536]);
      half.copyRaw(new Uint8Array(bits.buffer), 0, 'toDevice');
      const wide = empty(device, 'float32', [65536]);
      addon.ops.cast({ y: wide, x: half, n: 65536 });
      expect([...valuesOf(wide)]).toEqual([...valuesOf(half)]);
      const back = empty(device, 'bfloat16', [65536]);
      addon.ops.cast({ y: back, x: wide, n: 65536 });
      // A signalling NaN comes back quiet.
      const notANumber = (b: number) => (b & 0x7fff) > 0x7f80;
      expect([...new Uint16Array(bytesOf(back).buffer)]).toEqual(
        [...bits].map((b) => (notANumber(b) ? b | 0x40 : b)),
      );
    });

    it.each(SIZES)('%i of each type to itself, and to and from int32', (n) => {
      const random = new Random(n);
      const values = Array.from({ length: n }, () => random.below(2 ** 25) - 2 ** 24);
      const x = tensor(device, 'int32', values);
      for (const type of FLOATS) {
        const y = empty(device, type, [n]);
        addon.ops.cast({ y, x, n });
        expect([...valuesOf(y)]).toEqual([...valuesOf(tensor(device, type, values))]);
        const same = empty(device, type, [n]);
        addon.ops.cast({ y: same, x: y, n });
        expectSameBytes(same, y, type);
        // Towards zero.
        const halves = tensor(
          device,
          type,
          values.map((v) => (v % 128) + 0.5),
        );
        const whole = empty(device, 'int32', [n]);
        addon.ops.cast({ y: whole, x: halves, n });
        expect([...valuesOf(whole)]).toEqual(values.map((v) => Math.trunc((v % 128) + 0.5) + 0));
      }
      const same = empty(device, 'int32', [n]);
      addon.ops.cast({ y: same, x, n });
      expectSameBytes(same, x, 'int32');
      const bytes = tensor(
        device,
        'uint8',
        values.map((v) => v & 1),
      );
      const copied = empty(device, 'uint8', [n]);
      addon.ops.cast({ y: copied, x: bytes, n });
      expectSameBytes(copied, bytes, 'uint8');
    });
  });

  it.each(SIZES)('fill %i', (n) => {
    for (const value of [0, -1.5, 3]) {
      for (const type of FLOATS) {
        const y = empty(device, type, [n]);
        addon.ops.fill({ y, n, value });
        expect(
          valuesOf(y).every((v) => v === value),
          `${value} ${type}`,
        ).toBe(true);
      }
      const whole = Math.trunc(value) + 0;
      for (const [type, added] of [
        ['int32', 2 ** 24],
        ['int16', 0],
      ] as const) {
        const y = empty(device, type, [n]);
        addon.ops.fill({ y, n, value: whole + added });
        expect(
          valuesOf(y).every((v) => v === whole + added),
          `${value} ${type}`,
        ).toBe(true);
      }
    }
  });

  describe('normal numbers', () => {
    const fill = (n: number, seed: number, stream: number, std: number, place = 0) => {
      const y = empty(device, 'float32', [n]);
      addon.ops.fill_normal({ y, n, seed, stream, place, std });
      return y;
    };

    it('come from SplitMix64 and Box–Muller, the same on every processor', () => {
      const MASK = (1n << 64n) - 1n;
      const mix = (x0: bigint) => {
        let x = ((x0 ^ (x0 >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
        x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & MASK;
        return x ^ (x >> 31n);
      };
      const golden = 0x9e3779b97f4a7c15n;
      const key = mix((mix((42n + golden) & MASK) + 3n) & MASK);
      const uniform = (counter: number) =>
        (Number(mix((key + BigInt(counter) * golden) & MASK) >> 11n) + 1) * 2 ** -53;
      const expected = Array.from({ length: 1001 }, (_, i) => {
        const pair = i - (i % 2);
        const radius = 0.02 * Math.sqrt(-2 * Math.log(uniform(pair)));
        const angle = 2 * Math.PI * uniform(pair + 1);
        return radius * (i % 2 ? Math.sin(angle) : Math.cos(angle));
      });
      // One unit in the last place, for the float64 logarithm and cosine of two libraries may differ in their last bit.
      expectClose(valuesOf(fill(1001, 42, 3, 0.02)), expected, { relative: 2 ** -23, absolute: 1e-16 });
    });

    it('have mean 0 and the deviation asked for, and streams and seeds are independent', () => {
      const n = 100_000;
      const [a, b, c] = [fill(n, 1, 0, 2), fill(n, 1, 1, 2), fill(n, 2, 0, 2)].map(valuesOf);
      const mean = (x: Float64Array) => x.reduce((sum, v) => sum + v, 0) / n;
      // Four standard errors: σ/√n of the mean, σ²√(2/n) of the variance, σ²/√n of a product.
      for (const x of [a, b, c]) {
        expect(Math.abs(mean(x))).toBeLessThan((4 * 2) / Math.sqrt(n));
        expect(Math.abs(mean(x.map((v) => v * v)) - 4)).toBeLessThan(4 * 4 * Math.sqrt(2 / n));
        expect(Math.abs(mean(x.map((v, i) => v * x[(i + 1) % n])))).toBeLessThan((4 * 4) / Math.sqrt(n));
      }
      for (const [x, y] of [
        [a, b],
        [a, c],
        [b, c],
      ])
        expect(Math.abs(mean(x.map((v, i) => v * y[i])))).toBeLessThan((4 * 4) / Math.sqrt(n));
    });

    it('are a function of the place alone', () => {
      const long = withThreads(1, () => fill(40_001, 5, 6, 1));
      expectSameBytes(
        withThreads(3, () => fill(40_001, 5, 6, 1)),
        long,
      );
      const short = fill(17, 5, 6, 1);
      expect([...valuesOf(short)]).toEqual([...valuesOf(long).subarray(0, 17)]);
      const further = fill(17, 5, 6, 1, 20_000);
      expect([...valuesOf(further)]).toEqual([...valuesOf(long).subarray(20_000, 20_017)]);
    });
  });

  itRefuses('a short operand', device, 'axpby: z has 1 elements, needs 2', (d) => {
    const x = empty(d, 'float32', [2]);
    addon.ops.axpby({ y: x, x, z: empty(d, 'float32', [1]), n: 2, a: 1, b: 1 });
  });
  itRefuses('a sum in another type than float64', device, 'sum: out is float32, which it may not be', (d) => {
    const x = empty(d, 'float32', [2]);
    addon.ops.sum({ out: x, x, n: 2 });
  });
  itRefuses('a cast of float64', device, 'cast: x is float64, which it may not be', (d) =>
    addon.ops.cast({ y: empty(d, 'float32', [2]), x: empty(d, 'float64', [2]), n: 2 }),
  );
  itRefuses('a place within a pair', device, 'fill_normal: place is 3, it must be even', (d) =>
    addon.ops.fill_normal({ y: empty(d, 'float32', [2]), n: 2, seed: 0, stream: 0, place: 3, std: 1 }),
  );
  itRefuses('a negative size', device, 'fill: n: a size is negative: -1', (d) =>
    addon.ops.fill({ y: empty(d, 'float32', [2]), n: -1, value: 0 }),
  );
  itRefuses('a size that is not whole', device, 'fill: n: an integer was expected, not 1.5', (d) =>
    addon.ops.fill({ y: empty(d, 'float32', [2]), n: 1.5, value: 0 }),
  );
  itRefuses(
    'a tensor that was released',
    device,
    'fill: y: the buffer was released, or never existed',
    (d) => {
      const view = empty(d, 'float32', [2]).view([2]);
      view.dispose();
      addon.ops.fill({ y: view, n: 2, value: 0 });
    },
  );
  it('refuses tensors of two devices', () => {
    const [here, there] = [empty(device, 'float32', [1]), empty(metaOf(device), 'float32', [1])];
    expect(() => addon.ops.cast({ y: here, x: there, n: 1 })).toThrow(
      `cast: x: tensors of one op are on two devices: ${device} and ${metaOf(device)}`,
    );
  });
};
