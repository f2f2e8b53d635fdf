import { describe, expect, it } from 'vitest';
import {
  bytesOf,
  empty,
  expectClose,
  expectSameBytes,
  FLOATS,
  type FloatType,
  itRefuses,
  normal,
  type OpCases,
  Random,
  tensor,
  valuesOf,
  withThreads,
} from '../../tests/op_cases.js';
import { addon } from '../device/addon.js';
import type { NativeTensor } from '../device/native_tensor.js';
import { joinFloat, splitFloat } from './split_float.js';

const [LR, BETA1, BETA2, EPS] = [1e-2, 0.9, 0.999, 1e-8];
const OPTIONS = { beta1: BETA1, beta2: BETA2, eps: EPS };

const MASK = (1n << 64n) - 1n;
const GOLDEN = 0x9e3779b97f4a7c15n;

function mix(x0: bigint): bigint {
  let x = ((x0 ^ (x0 >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return x ^ (x >> 31n);
}

/** The 16 bits for m and those for v of the element at a place. */
function randomBits(seed: number, step: number, place: number): { m: number; v: number } {
  const stream = mix((mix((BigInt(seed) + GOLDEN) & MASK) + 2n ** 32n + BigInt(step)) & MASK);
  const number = mix((stream + BigInt(place) * GOLDEN) & MASK);
  return { m: Number(number >> 48n), v: Number((number >> 32n) & 0xffffn) };
}

/** The bfloat16 that float32 values become when these bits are added behind the place where they are cut. */
function roundedBy(x: NativeTensor, bits: (i: number) => number): Uint16Array {
  return Uint16Array.from(new Uint32Array(bytesOf(x).buffer), (b, i) => (b + bits(i)) >>> 16);
}

interface Types {
  p: FloatType;
  moments: FloatType;
  g: FloatType;
}
const TYPES: Types[] = FLOATS.flatMap((p) =>
  FLOATS.flatMap((moments) => FLOATS.map((g) => ({ p, moments, g }))),
);

export const cases: OpCases = (device) => {
  /** A run's state of n elements, whose moments and gradients bfloat16 holds; parameters in bfloat16 are split. */
  const state = (n: number, { p: type, moments, g: gradients }: Types) => {
    const random = new Random(n);
    const whole = normal(device, 'float32', random, [n]);
    const [m0, g0] = [0, 1].map(() => valuesOf(normal(device, 'bfloat16', random, [n])));
    const [m, g] = [tensor(device, moments, m0), tensor(device, gradients, g0)];
    const v = tensor(
      device,
      moments,
      valuesOf(
        tensor(
          device,
          'bfloat16',
          random.normals(n).map((x) => x * x),
        ),
      ),
    );
    if (type === 'float32') return { p: whole, m, v, g };
    const [p, remainder] = [empty(device, 'bfloat16', [n]), empty(device, 'int16', [n])];
    splitFloat(p, remainder, whole);
    return { p, remainder, m, v, g };
  };
  const whole = ({ p, remainder }: { p: NativeTensor; remainder?: NativeTensor | undefined }) => {
    if (!remainder) return p;
    const joined = empty(device, 'float32', p.shape);
    joinFloat(joined, p, remainder);
    return joined;
  };
  const FLOAT32: Types = { p: 'float32', moments: 'float32', g: 'float32' };
  const place = { seed: 42, place: 128 };

  describe.each([
    [1, 0, 1],
    [7, 0.1, 0.25],
  ])('step %i, weight decay %f, scale %f', (step, decay, scale) => {
    const update = () => tensor(device, 'float64', [step, LR, 1, scale]);

    it.each([1, 3, 17, 64, 65, 4097, 20001])('AdamW of %i elements', (n) => {
      const { p, m, v, g } = state(n, FLOAT32);
      const [p0, m0, v0, g0] = [p, m, v, g].map(valuesOf);
      addon.ops.adamw({ p, m, v, g, update: update(), n, ...OPTIONS, weight_decay: decay, ...place });
      const grad = g0.map((x) => x * scale);
      const m1 = m0.map((x, i) => BETA1 * x + (1 - BETA1) * grad[i]);
      const v1 = v0.map((x, i) => BETA2 * x + (1 - BETA2) * grad[i] ** 2);
      // At most four roundings in float32 for each.
      expectClose(valuesOf(m), m1, { absolute: 4 * 2 ** -24 * 4 }, 'm');
      expectClose(valuesOf(v), v1, { relative: 4 * 2 ** -24 }, 'v');
      const change = m1.map((x, i) => {
        const root = Math.sqrt(v1[i]) / Math.sqrt(1 - BETA2 ** step) + EPS;
        return ((LR / (1 - BETA1 ** step)) * x) / root;
      });
      const p1 = p0.map((x, i) => x * (1 - LR * decay) - change[i]);
      const tolerance = change.map((u, i) => 3 * 2 ** -24 * Math.abs(p0[i]) + 1e-6 * Math.abs(u) + 1e-8);
      valuesOf(p).forEach((x, i) => {
        if (!(Math.abs(x - p1[i]) <= tolerance[i]))
          expect.fail(`p[${i}] is ${x}, not ${p1[i]} ± ${tolerance[i]}`);
      });
      expect([...valuesOf(g)]).toEqual([...g0]);
    });

    it.each([1, 3, 17, 65, 4097, 20001])('%i elements are the same numbers however they are kept', (n) => {
      const expected = state(n, FLOAT32);
      addon.ops.adamw({ ...expected, update: update(), n, ...OPTIONS, weight_decay: decay, ...place });
      const bits = Array.from({ length: n }, (_, i) => randomBits(place.seed, step, place.place + i));
      const rounded = {
        m: roundedBy(expected.m, (i) => bits[i].m),
        v: roundedBy(expected.v, (i) => bits[i].v),
      };
      for (const types of TYPES)
        for (const threads of [1, 3]) {
          const own = state(n, types);
          withThreads(threads, () =>
            addon.ops.adamw({ ...own, update: update(), n, ...OPTIONS, weight_decay: decay, ...place }),
          );
          const said = `p ${types.p}, moments ${types.moments}, g ${types.g}`;
          expectSameBytes(whole(own), expected.p, `p: ${said}`);
          for (const key of ['m', 'v'] as const)
            if (types.moments === 'float32') expectSameBytes(own[key], expected[key], `${key}: ${said}`);
            else expect(new Uint16Array(bytesOf(own[key]).buffer), `${key}: ${said}`).toEqual(rounded[key]);
        }
    });
  });

  describe('moments in bfloat16', () => {
    // Without a gradient m and v are what the decays make of them: one value everywhere.
    const decayed = (
      n: number,
      m0: number,
      v0: number,
      { seed = 1, step = 1, place = 0, beta1 = BETA1, beta2 = BETA2 },
    ) => {
      const p = tensor(device, 'float32', new Float32Array(n));
      const [m, v] = [m0, v0].map((x) => tensor(device, 'bfloat16', new Float32Array(n).fill(x)));
      const g = tensor(device, 'bfloat16', new Float32Array(n));
      const update = tensor(device, 'float64', [step, LR, 1, 1]);
      addon.ops.adamw({ p, m, v, g, update, n, beta1, beta2, eps: EPS, weight_decay: 0, seed, place });
      return [m, v];
    };

    it('are right on average', () => {
      const n = 50_000;
      for (const [m0, v0] of [
        [1, 1],
        [-3.25, 2 ** -120],
        [2 ** -127, 7],
      ]) {
        const results = decayed(n, m0, v0, { seed: 3, step: 5 }).map(valuesOf);
        const exact = [Math.fround(BETA1) * m0, Math.fround(BETA2) * v0].map(Math.fround);
        results.forEach((values, which) => {
          const [low, high] = [Math.min(...values), Math.max(...values)];
          const part = (exact[which] - low) / (high - low);
          expect(part).toBeGreaterThan(0);
          expect(part).toBeLessThan(1);
          expect(values.every((x) => x === low || x === high)).toBe(true);
          const mean = values.reduce((sum, x) => sum + x, 0) / n;
          // Four standard errors of a mean of n choices between two neighbours.
          const deviation = (high - low) * Math.sqrt((part * (1 - part)) / n);
          expect(Math.abs(mean - exact[which])).toBeLessThan(4 * deviation);
        });
        // m's choices and v's, and those of neighbours, have nothing to do with each other: the same bound for
        // products of choices of mean 0 and variance 1.
        const [a, b] = results.map((values) => {
          const mean = values.reduce((sum, x) => sum + x, 0) / n;
          const deviation = Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / n);
          return values.map((x) => (x - mean) / deviation);
        });
        const together = (x: Float64Array, y: Float64Array, by: number) =>
          Math.abs(x.reduce((sum, value, i) => sum + value * y[(i + by) % n], 0)) / Math.sqrt(n);
        for (const [x, y, by] of [
          [a, b, 0],
          [a, a, 1],
          [b, b, 1],
        ] as const)
          expect(together(x, y, by)).toBeLessThan(4);
      }
    });

    it('are a function of seed, step and place alone', () => {
      const n = 4001;
      const [m, v] = decayed(n, 1, 1, {}).map(valuesOf);
      const parts = [0, 1999].map((place, i) => decayed([1999, 2002][i], 1, 1, { place }).map(valuesOf));
      expect(parts.flatMap(([part]) => [...part])).toEqual([...m]);
      expect(parts.flatMap(([, part]) => [...part])).toEqual([...v]);
      for (const other of [{ seed: 2 }, { step: 2 }, { place: 1 }])
        expect([...valuesOf(decayed(n, 1, 1, other)[0])]).not.toEqual([...m]);
    });

    it('keep what bfloat16 holds', () => {
      const exact = [
        [2, 3],
        [-(2 ** -125), 0],
        [0, 2 ** 126],
      ];
      for (const [m0, v0] of exact) {
        const [m, v] = decayed(1000, m0, v0, { beta1: 0.5, beta2: 0.25 }).map(valuesOf);
        expect(new Set(m)).toEqual(new Set([m0 / 2]));
        expect(new Set(v)).toEqual(new Set([v0 / 4]));
      }
    });
  });

  it.each([
    ['a norm', [1, LR, Number.NaN, 1]],
    ['a norm', [1, LR, Number.POSITIVE_INFINITY, 1]],
    ['a scale', [1, LR, 1, Number.NaN]],
  ])('changes nothing for %s that is not finite', (_, given) => {
    for (const types of TYPES) {
      const own = state(65, types);
      const tensors = Object.values(own);
      const before = tensors.map(bytesOf);
      const update = tensor(device, 'float64', given);
      addon.ops.adamw({ ...own, update, n: 65, ...OPTIONS, weight_decay: 0.1, ...place });
      expect(tensors.map(bytesOf)).toEqual(before);
    }
  });

  const rest = { n: 1, ...OPTIONS, weight_decay: 0, seed: 0, place: 0 };
  itRefuses(
    'parameters in bfloat16 alone',
    device,
    'adamw: parameters in bfloat16, and they alone, have a remainder',
    (d) => {
      const [x, update] = [empty(d, 'float32', [1]), empty(d, 'float64', [4])];
      addon.ops.adamw({ p: empty(d, 'bfloat16', [1]), m: x, v: x, g: x, update, ...rest });
    },
  );
  itRefuses(
    'a remainder of nothing',
    device,
    'adamw: parameters in bfloat16, and they alone, have a remainder',
    (d) => {
      const [x, update] = [empty(d, 'float32', [1]), empty(d, 'float64', [4])];
      addon.ops.adamw({ p: x, remainder: empty(d, 'int16', [1]), m: x, v: x, g: x, update, ...rest });
    },
  );
  itRefuses('moments of two types', device, 'adamw: m and v must have one type', (d) => {
    const [x, update] = [empty(d, 'float32', [1]), empty(d, 'float64', [4])];
    addon.ops.adamw({ p: x, m: empty(d, 'bfloat16', [1]), v: x, g: x, update, ...rest });
  });
  itRefuses('a learning rate alone', device, 'adamw: update has 1 elements, needs 4', (d) => {
    const x = empty(d, 'float32', [1]);
    const update = empty(d, 'float64', [1]);
    addon.ops.adamw({ p: x, m: x, v: x, g: x, update, ...rest });
  });
};
