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
import { addon } from '../device/addon.js';
import { gatherRows, scatterAddRows } from './embedding.js';

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

  // The gradient of rows in bfloat16 goes into a float32 table in training, into one of its own type elsewhere.
  const types: [FloatType, FloatType][] = [
    ['float32', 'float32'],
    ['float32', 'bfloat16'],
    ['bfloat16', 'bfloat16'],
  ];
  describe.each(types)('into %s rows of %s', (tableType, type) => {
    it.each(sizes)('$rows rows of $dim into $vocab', ({ rows, dim, vocab }) => {
      const random = new Random(rows);
      const table = normal(device, tableType, random, [vocab, dim]);
      const dy = normal(device, type, random, [rows, dim]);
      const ids = Array.from({ length: rows }, () => random.below(vocab));
      const expected = valuesOf(table);
      const add = valuesOf(dy);
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < dim; j++) expected[ids[i] * dim + j] += add[i * dim + j];
      scatterAddRows(table, dy, tensor(device, 'int32', ids));
      // A row takes at most about 17 additions, each rounded, of sums below 16.
      expectClose(valuesOf(table), expected, { absolute: 17 * 16 * ROUNDING[tableType] });
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

  for (const [id, what] of [
    [5, 'an id beyond the table'],
    [-1, 'a negative id'],
  ] as const) {
    const message = `ids[1] is ${id}, the table has rows 0…4`;
    itRefuses(
      `${what} (gather)`,
      device,
      `gather_rows: ${message}`,
      (d) => gatherRows(empty(d, 'float32', [5, 3]), tensor(d, 'int32', [0, id])),
      { byValue: true },
    );
    itRefuses(
      `${what} (scatter)`,
      device,
      `scatter_add_rows: ${message}`,
      (d) =>
        scatterAddRows(empty(d, 'float32', [5, 3]), empty(d, 'float32', [2, 3]), tensor(d, 'int32', [0, id])),
      { byValue: true },
    );
  }
  itRefuses('ids of another type', device, 'gather_rows: ids is float32, which it may not be', (d) => {
    gatherRows(empty(d, 'float32', [5, 3]), empty(d, 'float32', [2]));
  });
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
