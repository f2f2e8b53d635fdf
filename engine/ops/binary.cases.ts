import { describe, expect, it } from 'vitest';
import {
  empty,
  expectClose,
  expectSameBytes,
  itRefuses,
  normal,
  type OpCases,
  positions,
  Random,
  ROUNDING,
  tensor,
  valuesOf,
  withThreads,
} from '../../tests/op_cases.js';
import { addon } from '../device/addon.js';
import type { NativeTensor } from '../device/native_tensor.js';
import type { Binary, Four } from '../device/ops.js';

const ARITHMETIC: Partial<Record<Binary, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  subtract: (a, b) => a - b,
  multiply: (a, b) => a * b,
  divide: (a, b) => a / b,
  maximum: Math.max,
  minimum: Math.min,
  squared_difference: (a, b) => (a - b) ** 2,
};
const COMPARISONS: Partial<Record<Binary, (a: number, b: number) => boolean>> = {
  equal: (a, b) => a === b,
  not_equal: (a, b) => a !== b,
  less: (a, b) => a < b,
  less_equal: (a, b) => a <= b,
  greater: (a, b) => a > b,
  greater_equal: (a, b) => a >= b,
};
/** Whole numbers wrap around, as in an Int32Array. */
const WHOLE: Partial<Record<Binary, (a: number, b: number) => number>> = {
  add: (a, b) => (a + b) | 0,
  subtract: (a, b) => (a - b) | 0,
  multiply: Math.imul,
  maximum: Math.max,
  minimum: Math.min,
  squared_difference: (a, b) => Math.imul((a - b) | 0, (a - b) | 0),
};

/** A result, and how its operands lie: dense, repeated along some axes, transposed, with gaps. */
const LAYOUTS: [what: string, shape: Four, aStrides: Four, bStrides: Four][] = [
  ['one element', [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]],
  ['dense', [2, 3, 4, 5], [60, 20, 5, 1], [60, 20, 5, 1]],
  ['a row for all', [2, 3, 4, 17], [204, 68, 17, 1], [0, 0, 0, 1]],
  ['a number for each row', [1, 2, 3, 63], [0, 3, 1, 0], [378, 189, 63, 1]],
  ['one number', [1, 1, 3, 65], [195, 195, 65, 1], [0, 0, 0, 0]],
  ['transposed, and with gaps', [2, 3, 4, 5], [1, 2, 6, 24], [240, 80, 20, 3]],
  ['rows shared out among threads', [1, 1, 300, 63], [0, 0, 63, 1], [0, 0, 0, 1]],
  ['one row shared out among threads', [1, 1, 1, 33000], [0, 0, 0, 1], [0, 0, 0, 1]],
];

const elements = (shape: Four) => shape[0] * shape[1] * shape[2] * shape[3];
const extent = (shape: Four, strides: Four) =>
  shape.reduce((last, size, axis) => last + (size - 1) * strides[axis], 1);

// The binary op of the table: TF.js's elementwise kernels of two tensors.
export const cases: OpCases = (device) => {
  describe.each(LAYOUTS)('%s', (_, shape, aStrides, bStrides) => {
    const n = elements(shape);
    const read = (t: NativeTensor, strides: Four) => {
      const values = valuesOf(t);
      return positions(shape, strides).map((at) => values[at]);
    };
    const operands = (dtype: 'float32' | 'int32', values: (random: Random) => number) => {
      const random = new Random(n);
      const [a, b] = [aStrides, bStrides].map((strides) =>
        tensor(
          device,
          dtype,
          Array.from({ length: extent(shape, strides) }, () => values(random)),
        ),
      );
      return { a, b, fa: read(a, aStrides), fb: read(b, bStrides) };
    };
    const call = (op: Binary, y: NativeTensor, { a, b }: ReturnType<typeof operands>) =>
      addon.ops.binary({ y, a, b, op, shape, a_strides: aStrides, b_strides: bStrides });

    it.each(Object.entries(ARITHMETIC))('%s of float32', (op, f) => {
      const inputs = operands('float32', (random) => random.normal());
      const y = empty(device, 'float32', shape);
      call(op as Binary, y, inputs);
      const expected = inputs.fa.map((a, i) => f(a, inputs.fb[i]));
      // Rounded once; of a squared difference the difference is rounded too, and counts twice.
      const relative = (op === 'squared_difference' ? 3.01 : 1) * ROUNDING.float32;
      expectClose(valuesOf(y), expected, { relative }, op);
    });

    it.each(Object.entries(COMPARISONS))('%s of float32', (op, f) => {
      // Few values, so that many are equal.
      const inputs = operands('float32', (random) => random.below(3) - 1.5);
      const y = empty(device, 'uint8', shape);
      call(op as Binary, y, inputs);
      expect([...valuesOf(y)]).toEqual(inputs.fa.map((a, i) => Number(f(a, inputs.fb[i]))));
    });

    it.each(Object.entries(WHOLE))('%s of int32', (op, f) => {
      const inputs = operands('int32', (random) => random.below(2 ** 32) - 2 ** 31);
      const y = empty(device, 'int32', shape);
      call(op as Binary, y, inputs);
      expect([...valuesOf(y)]).toEqual(inputs.fa.map((a, i) => f(a, inputs.fb[i])));
    });

    it.each(Object.entries(COMPARISONS))('%s of int32', (op, f) => {
      // Two neighbours that are one number in float32.
      const inputs = operands('int32', (random) => 2 ** 30 + random.below(2));
      const y = empty(device, 'uint8', shape);
      call(op as Binary, y, inputs);
      expect([...valuesOf(y)]).toEqual(inputs.fa.map((a, i) => Number(f(a, inputs.fb[i]))));
    });

    it('gives the same with any number of threads', () => {
      const inputs = operands('float32', (random) => random.normal());
      const [one, two, three] = [1, 2, 3].map((threads) => {
        const y = empty(device, 'float32', shape);
        withThreads(threads, () => call('add', y, inputs));
        return y;
      });
      expectSameBytes(two, one);
      expectSameBytes(three, one);
    });
  });

  const dense: Four = [4, 4, 4, 1];
  it('keeps what is not a number, and compares it as false', () => {
    const a = tensor(device, 'float32', [Number.NaN, 1, Number.NaN, Number.POSITIVE_INFINITY]);
    const b = tensor(device, 'float32', [1, Number.NaN, Number.NaN, Number.NEGATIVE_INFINITY]);
    const all = (op: Binary, dtype: 'float32' | 'uint8') => {
      const y = empty(device, dtype, [4]);
      addon.ops.binary({ y, a, b, op, shape: [1, 1, 1, 4], a_strides: dense, b_strides: dense });
      return [...valuesOf(y)];
    };
    const { NaN: none, POSITIVE_INFINITY: infinity } = Number;
    expect(all('maximum', 'float32')).toEqual([none, none, none, infinity]);
    expect(all('minimum', 'float32')).toEqual([none, none, none, -infinity]);
    expect(all('add', 'float32')).toEqual([none, none, none, none]);
    expect(all('subtract', 'float32')).toEqual([none, none, none, infinity]);
    expect(all('not_equal', 'uint8')).toEqual([1, 1, 1, 1]);
    for (const op of ['equal', 'less', 'less_equal'] as const) expect(all(op, 'uint8')).toEqual([0, 0, 0, 0]);
    for (const op of ['greater', 'greater_equal'] as const) expect(all(op, 'uint8')).toEqual([0, 0, 0, 1]);
  });

  it('may write over an operand', () => {
    const a = normal(device, 'float32', new Random(1), [1000]);
    const expected = valuesOf(a).map((v) => v + v);
    addon.ops.binary({
      y: a,
      a,
      b: a,
      op: 'add',
      shape: [1, 1, 1, 1000],
      a_strides: dense,
      b_strides: dense,
    });
    expect([...valuesOf(a)]).toEqual([...expected]);
  });

  it.each([0, 1, 2, 3])('does nothing where axis %d is empty', (axis) => {
    const shape = [2, 3, 4, 5].with(axis, 0) as unknown as Four;
    const none = empty(device, 'float32', [0]);
    addon.ops.binary({ y: none, a: none, b: none, op: 'add', shape, a_strides: dense, b_strides: dense });
  });

  const refused = (
    d: typeof device,
    op: Binary,
    types: ('float32' | 'bfloat16' | 'int32' | 'uint8' | 'float64')[],
    shape: Four = [1, 1, 2, 3],
    strides: Four = [6, 6, 3, 1],
    sizes = [6, 6, 6],
  ) => {
    const [y, a, b] = types.map((dtype, i) => empty(d, dtype, [sizes[i]]));
    addon.ops.binary({ y, a, b, op, shape, a_strides: strides, b_strides: strides });
  };
  const three = <T>(type: T): [T, T, T] => [type, type, type];
  itRefuses('a short result', device, 'binary: y has 5 elements, needs 6', (d) =>
    refused(d, 'add', three('float32'), undefined, undefined, [5, 6, 6]),
  );
  itRefuses('an operand shorter than its strides reach', device, 'binary: a has 6 elements, needs 7', (d) =>
    refused(d, 'add', three('float32'), undefined, [0, 0, 4, 1]),
  );
  itRefuses('bfloat16', device, 'binary: y is bfloat16, which it may not be', (d) =>
    refused(d, 'add', three('bfloat16')),
  );
  itRefuses(
    'operands of two types',
    device,
    'binary: a and b must have one type, not float32 and int32',
    (d) => refused(d, 'add', ['float32', 'float32', 'int32']),
  );
  itRefuses('a sum of another type', device, 'binary: y has another type than its operands', (d) =>
    refused(d, 'add', ['int32', 'float32', 'float32']),
  );
  itRefuses('a comparison into numbers', device, 'binary: y of a comparison is uint8', (d) =>
    refused(d, 'less', three('float32')),
  );
  itRefuses('division of whole numbers', device, 'binary: division is for float32', (d) =>
    refused(d, 'divide', three('int32')),
  );
  itRefuses(
    'sizes that wrap around',
    device,
    'binary: the sizes are too large: 4294967296 × 4294967296',
    (d) => refused(d, 'add', three('float32'), [2 ** 32, 2 ** 32, 1, 1], [0, 0, 0, 0]),
  );
  itRefuses(
    'strides that wrap around',
    device,
    'binary: the sizes are too large: 1024 × 9007199254740992',
    (d) => refused(d, 'add', three('float32'), [1025, 1, 1, 1], [2 ** 53, 0, 0, 0], [1025, 6, 6]),
  );
};
