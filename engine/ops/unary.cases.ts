import { describe, expect, it } from 'vitest';
import {
  empty,
  expectClose,
  expectSameBytes,
  itRefuses,
  normal,
  type OpCases,
  Random,
  ROUNDING,
  type Tolerance,
  tensor,
  valuesOf,
  withThreads,
} from '../../tests/op_cases.js';
import { addon } from '../device/addon.js';
import type { Unary } from '../device/ops.js';

// A unit in the last place is up to two roundings. The C library's logarithm is right to one unit and its tanh to two, as
// glibc's manual says; the kernels' own exponential is to three, and its square to six.
const ROUNDED: Tolerance = { relative: ROUNDING.float32 };
const SMALLEST = 2 ** -149;

interface Reference {
  of(x: number): number;
  tolerance: Tolerance;
  /** Values that matter besides small ones. */
  also: number[];
}

const { NaN: none, POSITIVE_INFINITY: infinity } = Number;

const REFERENCES: Record<Unary, Reference> = {
  negate: { of: (x) => -x, tolerance: ROUNDED, also: [1e30, infinity] },
  abs: { of: Math.abs, tolerance: ROUNDED, also: [-1e30, -infinity] },
  square: { of: (x) => x * x, tolerance: ROUNDED, also: [1e10, -1e-10, 1e30] },
  sqrt: { of: Math.sqrt, tolerance: ROUNDED, also: [0, 1e30, 1e-30, -1, infinity] },
  // The root is rounded, and so is its inverse.
  rsqrt: {
    of: (x) => 1 / Math.sqrt(x),
    tolerance: { relative: 2.01 * ROUNDING.float32 },
    also: [0, 1e30, -1],
  },
  reciprocal: { of: (x) => 1 / x, tolerance: ROUNDED, also: [0, 3e30, -7e-30, infinity, -infinity] },
  exp: {
    of: Math.exp,
    tolerance: { relative: 12 * ROUNDING.float32, absolute: SMALLEST },
    also: [0, 88.7, 89, -87, -90, -103, -104, 1000, -1000, infinity, -infinity],
  },
  log: {
    of: Math.log,
    tolerance: { relative: 2 * ROUNDING.float32 },
    also: [0, 1, 1e30, 1e-30, 1 + 2 ** -20, -1, infinity],
  },
  sigmoid: {
    of: (x) => 1 / (1 + Math.exp(-x)),
    // 1 / (1 + eˣ) is 0 where eˣ is not finite: below 1/3.4e38.
    tolerance: { relative: 14 * ROUNDING.float32, absolute: 3e-39 },
    also: [0, 17, -17, -87, -88.8, -104, 1000, -1000, infinity, -infinity],
  },
  tanh: {
    of: Math.tanh,
    tolerance: { relative: 4 * ROUNDING.float32 },
    also: [0, 1e-20, 9, -9, 20, infinity, -infinity],
  },
};

// The unary op of the table: TF.js's elementwise kernels of one tensor.
export const cases: OpCases = (device) => {
  describe.each(Object.entries(REFERENCES))('%s', (name, { of, tolerance, also }) => {
    const op = name as Unary;

    it.each([1, 3, 17, 4097, 20001])('of %d elements', (n) => {
      const random = new Random(n);
      const x = tensor(
        device,
        'float32',
        Array.from({ length: n }, () => 4 * random.normal()),
      );
      const y = empty(device, 'float32', [n]);
      addon.ops.unary({ y, x, op, n });
      expectClose(...numbers(valuesOf(y), valuesOf(x).map(of)), tolerance, name);
      addon.ops.unary({ y: x, x, op, n });
      expectSameBytes(x, y, 'over x');
    });

    it('at the ends of its range, and of what is not a number', () => {
      const x = tensor(device, 'float32', [...also, none]);
      const y = empty(device, 'float32', [x.size]);
      addon.ops.unary({ y, x, op, n: x.size });
      expectClose(...numbers(valuesOf(y), valuesOf(x).map(of)), tolerance, name);
    });
  });

  /** Both without what is not a number and not finite, which must stand in the same places. */
  function numbers(actual: Float64Array, exact: Float64Array): [Float64Array, Float64Array] {
    const expected = exact.map((v) => (Math.abs(v) > 3.4028235677973366e38 ? Math.sign(v) * infinity : v));
    const special = (v: number) => !Number.isFinite(v);
    expect([...actual].filter((_, i) => special(expected[i]))).toEqual([...expected.filter(special)]);
    return [actual.filter((_, i) => !special(expected[i])), expected.filter((v) => !special(v))];
  }

  it('gives the same with any number of threads', () => {
    const x = normal(device, 'float32', new Random(1), [100003]);
    const [one, two, three] = [1, 2, 3].map((threads) => {
      const y = empty(device, 'float32', [x.size]);
      withThreads(threads, () => addon.ops.unary({ y, x, op: 'exp', n: x.size }));
      return y;
    });
    expectSameBytes(two, one);
    expectSameBytes(three, one);
  });

  it('does nothing to no elements', () => {
    const x = tensor(device, 'float32', [7]);
    addon.ops.unary({ y: x, x, op: 'negate', n: 0 });
    expect([...valuesOf(x)]).toEqual([7]);
  });

  itRefuses('a short result', device, 'unary: y has 2 elements, needs 3', (d) =>
    addon.ops.unary({ y: empty(d, 'float32', [2]), x: empty(d, 'float32', [3]), op: 'abs', n: 3 }),
  );
  itRefuses('whole numbers', device, 'unary: x is int32, which it may not be', (d) =>
    addon.ops.unary({ y: empty(d, 'float32', [2]), x: empty(d, 'int32', [2]), op: 'abs', n: 2 }),
  );
  itRefuses('bfloat16', device, 'unary: y is bfloat16, which it may not be', (d) =>
    addon.ops.unary({ y: empty(d, 'bfloat16', [2]), x: empty(d, 'float32', [2]), op: 'abs', n: 2 }),
  );
};
