import { describe, expect, it } from 'vitest';
import {
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
import { addon } from '../device/addon.js';

// One row, few, and enough elements to be shared out among threads; columns below, at and over one task's.
const SHAPES = [
  [1, 1],
  [3, 7],
  [2, 128],
  [130, 129],
];

export const cases: OpCases = (device) => {
  describe.each(FLOATS)('%s', (type) => {
    it.each(SHAPES)('add_columns of [%i, %i]', (rows, columns) => {
      const random = new Random(rows);
      for (const [stride, offset] of [
        [columns, 0],
        [columns + 5, 0],
        [columns + 5, 3],
      ]) {
        const y = normal(device, type, random, [rows, stride]);
        const x = normal(device, type, random, [rows, columns]);
        const [fy, fx] = [y, x].map(valuesOf);
        const expected = (xStride: number) =>
          fy.map((value, i) => {
            const c = (i % stride) - offset;
            return c >= 0 && c < columns ? value + fx[Math.floor(i / stride) * xStride + c] : value;
          });
        const again = tensor(device, type, fy, y.shape);
        const sizes = { rows, columns, y_stride: stride, y_offset: offset };
        addon.ops.add_columns({ y, x, ...sizes, x_stride: columns });
        // One rounding.
        expectClose(valuesOf(y), expected(columns), { relative: ROUNDING[type] });
        // One row for all of them.
        addon.ops.add_columns({ y: again, x, ...sizes, x_stride: 0 });
        expectClose(valuesOf(again), expected(0), { relative: ROUNDING[type] });
      }
    });

    it.each(SHAPES)('sum_columns of [%i, %i]', (rows, columns) => {
      const random = new Random(rows + 1);
      // Values that bfloat16 holds, for results of both types.
      const fy = valuesOf(normal(device, 'bfloat16', random, [columns]));
      const y = tensor(device, 'float32', fy);
      const x = normal(device, type, random, [rows, columns]);
      const fx = valuesOf(x);
      const again = tensor(device, 'float32', fy);
      addon.ops.sum_columns({ y, x, rows, columns });
      const sums = fy.map((_, c) =>
        Array.from({ length: rows }, (_, r) => fx[r * columns + c]).reduce((a, b) => a + b),
      );
      // The sum is exact to float64; it is rounded once, and once more when it is added.
      expectClose(
        valuesOf(y),
        fy.map((value, c) => value + sums[c]),
        { relative: 2 ** -23, absolute: 2 ** -23 * Math.sqrt(rows) },
      );
      withThreads(3, () => addon.ops.sum_columns({ y: again, x, rows, columns }));
      expectSameBytes(again, y, 'with three threads');
      const rounded = tensor(device, 'bfloat16', fy);
      addon.ops.sum_columns({ y: rounded, x, rows, columns });
      expectSameBytes(rounded, tensor(device, 'bfloat16', valuesOf(y)), 'rounded once to bfloat16');
    });
  });

  it('do nothing without rows', () => {
    const y = tensor(device, 'float32', [1, 2]);
    const none = empty(device, 'float32', [0]);
    addon.ops.sum_columns({ y, x: none, rows: 0, columns: 2 });
    addon.ops.add_columns({ y: none, x: y, rows: 0, columns: 2, y_stride: 2, y_offset: 0, x_stride: 0 });
    expect([...valuesOf(y)]).toEqual([1, 2]);
  });

  itRefuses('columns beyond a row', device, 'add_columns: a row of 4 elements has no columns 3…5', (d) => {
    const [y, x] = [empty(d, 'float32', [8]), empty(d, 'float32', [4])];
    addon.ops.add_columns({ y, x, rows: 2, columns: 2, y_stride: 4, y_offset: 3, x_stride: 2 });
  });
  itRefuses('rows that overlap', device, 'add_columns: rows of x overlap', (d) => {
    const [y, x] = [empty(d, 'float32', [8]), empty(d, 'float32', [4])];
    addon.ops.add_columns({ y, x, rows: 2, columns: 2, y_stride: 4, y_offset: 0, x_stride: 1 });
  });
  itRefuses('two types', device, 'add_columns: y and x must have one type', (d) => {
    const [y, x] = [empty(d, 'bfloat16', [8]), empty(d, 'float32', [4])];
    addon.ops.add_columns({ y, x, rows: 2, columns: 2, y_stride: 4, y_offset: 0, x_stride: 2 });
  });
  itRefuses('a whole number for a sum', device, 'sum_columns: y is int32, which it may not be', (d) => {
    const [y, x] = [empty(d, 'int32', [2]), empty(d, 'float32', [4])];
    addon.ops.sum_columns({ y, x, rows: 2, columns: 2 });
  });
};
