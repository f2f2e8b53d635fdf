import { expect, it } from 'vitest';
import {
  empty,
  expectClose,
  expectSameBytes,
  itRefuses,
  normal,
  type OpCases,
  Random,
  tensor,
  valuesOf,
  withThreads,
} from '../../tests/op_cases.js';
import { addon } from '../device/addon.js';

function reference(x: Float64Array, dim: number): Float64Array {
  const y = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += dim) {
    const row = x.subarray(start, start + dim);
    const top = row.reduce((most, v) => Math.max(most, v), Number.NEGATIVE_INFINITY);
    const total = row.reduce((sum, v) => sum + Math.exp(v - top), 0);
    for (let i = 0; i < dim; i++) y[start + i] = Math.exp(row[i] - top) / total;
  }
  return y;
}

// The softmax op of the table, over rows.
export const cases: OpCases = (device) => {
  it.each([
    [1, 1],
    [3, 5],
    [17, 3],
    [2, 63],
    [65, 300],
    [1, 20001],
  ])('%d rows of %d', (rows, dim) => {
    const x = normal(device, 'float32', new Random(dim), [rows, dim], 3);
    const y = empty(device, 'float32', [rows, dim]);
    addon.ops.softmax({ y, x, rows, dim });
    // The difference to the top (below 32) is rounded by up to 2^-20, the exponential is right to 3 units in the last
    // place, and a float32 sum of positive terms, one after another at worst, wanders by 2^-24 a term.
    expectClose(valuesOf(y), reference(valuesOf(x), dim), { relative: 2e-6 + 3 * Math.sqrt(dim) * 2 ** -24 });
    addon.ops.softmax({ y: x, x, rows, dim });
    expectSameBytes(x, y, 'over x');
  });

  it('gives the same with any number of threads', () => {
    const x = normal(device, 'float32', new Random(1), [130, 257]);
    const [one, two, three] = [1, 2, 3].map((threads) => {
      const y = empty(device, 'float32', [130, 257]);
      withThreads(threads, () => addon.ops.softmax({ y, x, rows: 130, dim: 257 }));
      return y;
    });
    expectSameBytes(two, one);
    expectSameBytes(three, one);
  });

  it('takes logits of any size, and none where −∞ says so', () => {
    const [low, high] = [Number.NEGATIVE_INFINITY, 3e38];
    const x = tensor(device, 'float32', [1000, 1000, -1000, high, -high, low, low, 0, 0]);
    addon.ops.softmax({ y: x, x, rows: 3, dim: 3 });
    expect([...valuesOf(x)]).toEqual([0.5, 0.5, 0, 1, 0, 0, 0, 0.5, 0.5]);
  });

  it('a row that holds what is not a number is none', () => {
    const x = tensor(device, 'float32', [1, Number.NaN, 2, 0, 0, 0, 0, 0]);
    addon.ops.softmax({ y: x, x, rows: 2, dim: 4 });
    expect([...valuesOf(x)]).toEqual([
      Number.NaN,
      Number.NaN,
      Number.NaN,
      Number.NaN,
      0.25,
      0.25,
      0.25,
      0.25,
    ]);
  });

  it.each([
    [0, 3],
    [3, 0],
  ])('does nothing to %d rows of %d', (rows, dim) => {
    const none = empty(device, 'float32', [0]);
    addon.ops.softmax({ y: none, x: none, rows, dim });
  });

  itRefuses('a short row', device, 'softmax: x has 5 elements, needs 6', (d) =>
    addon.ops.softmax({ y: empty(d, 'float32', [6]), x: empty(d, 'float32', [5]), rows: 2, dim: 3 }),
  );
  itRefuses('bfloat16', device, 'softmax: y is bfloat16, which it may not be', (d) => {
    const y = empty(d, 'bfloat16', [6]);
    addon.ops.softmax({ y, x: y, rows: 2, dim: 3 });
  });
  itRefuses(
    'sizes that wrap around',
    device,
    'softmax: the sizes are too large: 4294967296 × 4294967296',
    (d) => {
      const y = empty(d, 'float32', [16]);
      addon.ops.softmax({ y, x: y, rows: 2 ** 32, dim: 2 ** 32 });
    },
  );
};
