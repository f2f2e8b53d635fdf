import { describe, expect, it } from 'vitest';
import {
  empty,
  expectClose,
  expectSameBytes,
  FLOATS,
  type FloatType,
  itRefuses,
  normal,
  type OpCases,
  Random,
  ROUNDING,
  tensor,
  valuesOf,
  withThreads,
} from '../../tests/op_cases.js';
import { addon, type DeviceName } from '../device/addon.js';
import { gatherRows, scatterAddRows, scatterRows } from './embedding.js';

export const cases: OpCases = (device) => {
  const sizes = [
    { rows: 1, dim: 1, vocab: 1 },
    { rows: 17, dim: 3, vocab: 5 },
    { rows: 5, dim: 17, vocab: 65 },
    { rows: 3, dim: 65, vocab: 130 },
    { rows: 257, dim: 130, vocab: 63 },
  ];

  describe.each(FLOATS)('%s', (type) => {
    it.each(sizes)('$rows rows of $dim out of $vocab', ({ rows, dim, vocab }) => {
      const random = new Random(rows);
      const table = normal(device, type, random, [vocab, dim]);
      const ids = Array.from({ length: rows }, () => random.below(vocab));
      const y = gatherRows(table, tensor(device, 'int32', ids));
      expect(y.shape).toEqual([rows, dim]);
      const values = valuesOf(table);
      expect([...valuesOf(y)]).toEqual(ids.flatMap((id) => [...values.subarray(id * dim, (id + 1) * dim)]));
      y.dispose();
    });
  });

  describe.each(FLOATS)('rows of %s stored', (type) => {
    it.each([
      { rows: 1, dim: 1, column: 0, beyond: 0 },
      { rows: 5, dim: 3, column: 0, beyond: 2 },
      { rows: 17, dim: 65, column: 33, beyond: 0 },
      { rows: 130, dim: 257, column: 1, beyond: 7 },
      { rows: 0, dim: 5, column: 2, beyond: 0 },
    ])('$rows rows of $dim from column $column on, $beyond beyond', ({ rows, dim, column, beyond }) => {
      const random = new Random(dim);
      const width = column + dim + beyond;
      const x = normal(device, type, random, [rows, width]);
      const table = normal(device, type, random, [rows + 9, dim]);
      // Every other row from the end backwards, as far as there are such; then the odd ones.
      const all = Array.from({ length: rows + 9 }, (_, i) => rows + 8 - i);
      const ids = [...all.filter((id) => id % 2 === 0), ...all.filter((id) => id % 2)].slice(0, rows);
      const expected = valuesOf(table);
      const values = valuesOf(x);
      ids.forEach((id, i) => {
        expected.set(values.subarray(i * width + column, i * width + column + dim), id * dim);
      });
      scatterRows(table, x, tensor(device, 'int32', ids), column);
      expect([...valuesOf(table)]).toEqual([...expected]);
    });
  });

  // The gradient of rows in bfloat16 goes into a table of either type in training.
  const types: [FloatType, FloatType][] = [
    ['float32', 'float32'],
    ['float32', 'bfloat16'],
    ['bfloat16', 'bfloat16'],
  ];
  describe.each(types)('into %s rows of %s', (tableType, type) => {
    it.each(sizes)('$rows rows of $dim into $vocab', ({ rows, dim, vocab }) => {
      const random = new Random(rows);
      // Values that bfloat16 holds, for both types of tables.
      const before = valuesOf(normal(device, 'bfloat16', random, [vocab, dim]));
      const table = tensor(device, tableType, before, [vocab, dim]);
      const dy = normal(device, type, random, [rows, dim]);
      const ids = Array.from({ length: rows }, () => random.below(vocab));
      const expected = valuesOf(table);
      const add = valuesOf(dy);
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < dim; j++) expected[ids[i] * dim + j] += add[i * dim + j];
      scatterAddRows(table, dy, tensor(device, 'int32', ids));
      // A row takes at most about 17 additions in float32, of sums below 16.
      const additions = { absolute: 17 * 16 * ROUNDING.float32 };
      expectClose(valuesOf(table), expected, { ...additions, relative: ROUNDING[tableType] });
      if (tableType === 'float32') return;
      // However many rows one gets, it is rounded once.
      const wide = tensor(device, 'float32', before, [vocab, dim]);
      scatterAddRows(wide, dy, tensor(device, 'int32', ids));
      expectSameBytes(table, tensor(device, 'bfloat16', valuesOf(wide)), 'rounded once');
    });

    it('adds in the order of the rows, whatever the number of threads', () => {
      const random = new Random(2);
      const dy = normal(device, type, random, [300, 100]);
      const ids = tensor(
        device,
        'int32',
        Array.from({ length: 300 }, () => random.below(3)),
      );
      const [one, two, three] = [1, 2, 3].map((threads) => {
        const table = tensor(device, tableType, new Float32Array(300), [3, 100]);
        withThreads(threads, () => scatterAddRows(table, dy, ids));
        return table;
      });
      expectSameBytes(two, one);
      expectSameBytes(three, one);
      if (tableType === 'float32') {
        const expected = new Float32Array(300);
        const [values, at] = [valuesOf(dy), valuesOf(ids)];
        for (let i = 0; i < 300; i++)
          for (let j = 0; j < 100; j++)
            expected[at[i] * 100 + j] = Math.fround(expected[at[i] * 100 + j] + values[i * 100 + j]);
        expect([...valuesOf(one)]).toEqual([...expected]);
      }
    });
  });

  itRefuses('ids of another type', device, 'gather_rows: ids is float32, which it may not be', (d) => {
    gatherRows(empty(d, 'float32', [5, 3]), empty(d, 'float32', [2]));
  });
  const store = (d: DeviceName, { xType = 'float32' as FloatType, elements = 7, stride = 4, dim = 3 }) =>
    addon.ops.scatter_rows({
      table: empty(d, 'float32', [5 * dim]),
      x: empty(d, xType, [elements]),
      ids: tensor(d, 'int32', [4, 0]),
      rows: 2,
      dim,
      x_stride: stride,
      table_rows: 5,
    });
  it('stores the last row of what ends with its columns', () => {
    expect(() => store(device, {})).not.toThrow();
  });
  itRefuses('a row that ends too early', device, 'scatter_rows: x has 6 elements, needs 7', (d) =>
    store(d, { elements: 6 }),
  );
  itRefuses(
    'rows closer than their length',
    device,
    'scatter_rows: rows of 5 elements do not fit into 4',
    (d) => store(d, { dim: 5, elements: 9 }),
  );
  itRefuses('a table of another type', device, 'scatter_rows: table and x must have one type', (d) =>
    store(d, { xType: 'bfloat16' }),
  );
  itRefuses('columns that are not there', device, 'x [2,4] has no row of 3 from column 2 on', (d) =>
    scatterRows(empty(d, 'float32', [5, 3]), empty(d, 'float32', [2, 4]), tensor(d, 'int32', [4, 0]), 2),
  );
  itRefuses('a result of another type', device, 'gather_rows: y and table must have one type', (d) =>
    addon.ops.gather_rows({
      y: empty(d, 'float32', [3]),
      table: empty(d, 'bfloat16', [3]),
      ids: empty(d, 'int32', [1]),
      rows: 1,
      dim: 3,
      table_rows: 1,
    }),
  );
  itRefuses(
    'sizes that wrap around',
    device,
    'gather_rows: the sizes are too large: 4294967296 × 4294967296',
    (d) => {
      const y = empty(d, 'float32', [16]);
      addon.ops.gather_rows({
        y,
        table: y,
        ids: empty(d, 'int32', [16]),
        rows: 2 ** 32,
        dim: 2 ** 32,
        table_rows: 1,
      });
    },
  );
};
