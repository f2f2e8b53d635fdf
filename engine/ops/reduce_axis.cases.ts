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
  tensor,
  valuesOf,
  withThreads,
} from '../../tests/op_cases.js';
import { addon } from '../device/addon.js';
import type { Reduction } from '../device/ops.js';

const { NaN: none, POSITIVE_INFINITY: infinity } = Number;

const REFERENCES: Record<Reduction, (values: number[]) => number> = {
  sum: (values) => values.reduce((sum, v) => sum + v, 0),
  mean: (values) => values.reduce((sum, v) => sum + v, 0) / values.length,
  max: (values) => values.reduce((most, v) => Math.max(most, v), -infinity),
  min: (values) => values.reduce((least, v) => Math.min(least, v), infinity),
};
const OPS = Object.keys(REFERENCES) as Reduction[];

/** [outer, n, inner]: rows, columns and both; over 16384 elements threads share them out, and 256 columns are a task. */
const SIZES: [outer: number, n: number, inner: number][] = [
  [1, 1, 1],
  [3, 5, 1],
  [2, 7, 3],
  [1, 20001, 1],
  [300, 65, 1],
  [3, 17, 300],
  [1, 2, 20001],
];

function reference(op: Reduction, x: ArrayLike<number>, outer: number, n: number, inner: number): number[] {
  return Array.from({ length: outer * inner }, (_, at) => {
    const start = Math.floor(at / inner) * n * inner + (at % inner);
    return REFERENCES[op](Array.from({ length: n }, (_, k) => x[start + k * inner]));
  });
}

// The reduce_axis op of the table: TF.js's reductions.
export const cases: OpCases = (device) => {
  describe.each(SIZES)('[%d, %d, %d]', (outer, n, inner) => {
    it.each(OPS)('%s of float32', (op) => {
      const x = normal(device, 'float32', new Random(n), [outer, n, inner]);
      const y = empty(device, 'float32', [outer, inner]);
      addon.ops.reduce_axis({ y, x, op, outer, n, inner });
      // Sums are float64, in another order than here: what is added is of order 1.
      const expected = reference(op, valuesOf(x), outer, n, inner);
      expectClose(valuesOf(y), expected, { relative: ROUNDING.float32, absolute: n * 2 ** -50 }, op);
    });

    it.each(['sum', 'max', 'min'] as const)('%s of int32', (op) => {
      const random = new Random(n);
      const x = tensor(
        device,
        'int32',
        Array.from({ length: outer * n * inner }, () => random.below(2 ** 32) - 2 ** 31),
      );
      const y = empty(device, 'int32', [outer, inner]);
      addon.ops.reduce_axis({ y, x, op, outer, n, inner });
      // Sums wrap around.
      expect([...valuesOf(y)]).toEqual(reference(op, valuesOf(x), outer, n, inner).map((v) => v | 0));
    });

    it('gives the same with any number of threads', () => {
      const x = normal(device, 'float32', new Random(1), [outer, n, inner]);
      for (const op of OPS) {
        const [one, two, three] = [1, 2, 3].map((threads) => {
          const y = empty(device, 'float32', [outer, inner]);
          withThreads(threads, () => addon.ops.reduce_axis({ y, x, op, outer, n, inner }));
          return y;
        });
        expectSameBytes(two, one, op);
        expectSameBytes(three, one, op);
      }
    });
  });

  it.each([1, 3])('of nothing gives what each starts with (%d columns)', (inner) => {
    const results = (dtype: 'float32' | 'int32', ops: readonly Reduction[]) =>
      ops.map((op) => {
        const y = empty(device, dtype, [inner]);
        addon.ops.reduce_axis({ y, x: empty(device, dtype, [0]), op, outer: 1, n: 0, inner });
        return valuesOf(y)[inner - 1];
      });
    expect(results('float32', ['sum', 'mean', 'max', 'min'])).toEqual([0, none, -infinity, infinity]);
    expect(results('int32', ['sum', 'max', 'min'])).toEqual([0, -(2 ** 31), 2 ** 31 - 1]);
  });

  it.each([
    [0, 3, 2],
    [2, 3, 0],
  ])('does nothing for [%d, 3, %d]', (outer, n, inner) => {
    const no = empty(device, 'float32', [0]);
    for (const op of OPS) addon.ops.reduce_axis({ y: no, x: no, op, outer, n, inner });
  });

  it('keeps what is not a number, wherever it stands, and infinities', () => {
    // Columns: a NaN at the start, in the middle and at the end, an infinity, two that cancel.
    const columns = [
      [none, 1, 2],
      [1, none, 2],
      [1, 2, none],
      [1, infinity, 2],
      [infinity, -infinity, 1],
    ];
    const all = (op: Reduction, inner: number) => {
      const values = inner === 1 ? columns.flat() : [0, 1, 2].flatMap((k) => columns.map((c) => c[k]));
      const outer = inner === 1 ? 5 : 1;
      const y = empty(device, 'float32', [5]);
      addon.ops.reduce_axis({ y, x: tensor(device, 'float32', values), op, outer, n: 3, inner });
      return [...valuesOf(y)];
    };
    for (const inner of [1, 5]) {
      expect(all('sum', inner)).toEqual([none, none, none, infinity, none]);
      expect(all('mean', inner)).toEqual([none, none, none, infinity, none]);
      expect(all('max', inner)).toEqual([none, none, none, infinity, infinity]);
      expect(all('min', inner)).toEqual([none, none, none, 1, -infinity]);
    }
  });

  it('sums in float64', () => {
    const values = [2 ** 60, 1, 1, -(2 ** 60), 3, 2 ** 25, 1, -(2 ** 25)];
    const y = empty(device, 'float32', [1]);
    addon.ops.reduce_axis({
      y,
      x: tensor(device, 'float32', values.slice(4)),
      op: 'sum',
      outer: 1,
      n: 4,
      inner: 1,
    });
    expect([...valuesOf(y)]).toEqual([4]);
  });

  const call = (
    d: typeof device,
    op: Reduction,
    [y, x]: ('float32' | 'int32' | 'bfloat16')[],
    sizes = [4, 12],
    [outer, n, inner] = [2, 3, 2],
  ) => addon.ops.reduce_axis({ y: empty(d, y, [sizes[0]]), x: empty(d, x, [sizes[1]]), op, outer, n, inner });
  itRefuses('a short result', device, 'reduce_axis: y has 3 elements, needs 4', (d) =>
    call(d, 'sum', ['float32', 'float32'], [3, 12]),
  );
  itRefuses('a short operand', device, 'reduce_axis: x has 11 elements, needs 12', (d) =>
    call(d, 'sum', ['float32', 'float32'], [4, 11]),
  );
  itRefuses('two types', device, 'reduce_axis: y and x must have one type, not float32 and int32', (d) =>
    call(d, 'sum', ['float32', 'int32']),
  );
  itRefuses('bfloat16', device, 'reduce_axis: y is bfloat16, which it may not be', (d) =>
    call(d, 'sum', ['bfloat16', 'bfloat16']),
  );
  itRefuses('the mean of whole numbers', device, 'reduce_axis: the mean is for float32', (d) =>
    call(d, 'mean', ['int32', 'int32']),
  );
  itRefuses(
    'sizes that wrap around',
    device,
    'reduce_axis: the sizes are too large: 1024 × 9007199254740992',
    (d) => call(d, 'sum', ['float32', 'float32'], [1024, 12], [1024, 2 ** 53, 1]),
  );
};
