import { describe, expect, it } from 'vitest';
import {
  bytesOf,
  empty,
  expectSameBytes,
  itRefuses,
  normal,
  type OpCases,
  positions,
  Random,
  tensor,
  valuesOf,
  withThreads,
} from '../../tests/op_cases.js';
import { addon } from '../device/addon.js';
import type { DType } from '../device/native_tensor.js';
import type { Four } from '../device/ops.js';

const TYPES: DType[] = ['float32', 'bfloat16', 'int32', 'float64', 'uint8'];

interface Copy {
  what: string;
  shape: Four;
  y: { size: number; offset: number; strides: Four };
  x: { size: number; offset: number; strides: Four };
}

const COPIES: Copy[] = [
  {
    what: 'one element',
    shape: [1, 1, 1, 1],
    y: { size: 1, offset: 0, strides: [1, 1, 1, 1] },
    x: { size: 1, offset: 0, strides: [1, 1, 1, 1] },
  },
  {
    what: 'a transpose',
    shape: [3, 5, 1, 2],
    y: { size: 30, offset: 0, strides: [10, 2, 2, 1] },
    x: { size: 30, offset: 0, strides: [1, 6, 6, 3] },
  },
  {
    what: 'a slice',
    shape: [1, 2, 3, 5],
    y: { size: 30, offset: 0, strides: [30, 15, 5, 1] },
    x: { size: 7 * 11 * 13, offset: 13 + 2, strides: [1001, 143, 13, 1] },
  },
  {
    what: 'a part of a concatenation',
    shape: [1, 1, 17, 3],
    y: { size: 17 * 8, offset: 4, strides: [0, 0, 8, 1] },
    x: { size: 51, offset: 0, strides: [51, 51, 3, 1] },
  },
  {
    what: 'every other element, repeated',
    shape: [2, 3, 1, 9],
    y: { size: 108, offset: 1, strides: [54, 18, 18, 2] },
    x: { size: 30, offset: 3, strides: [0, 9, 0, 1] },
  },
  {
    what: 'many rows',
    shape: [1, 130, 65, 3],
    y: { size: 130 * 65 * 3, offset: 0, strides: [0, 3, 390, 1] },
    x: { size: 130 * 65 * 3, offset: 0, strides: [0, 195, 3, 1] },
  },
];

// The copy_strided op of the table: transposes, slices and concatenations.
export const cases: OpCases = (device) => {
  describe.each(TYPES)('%s', (dtype) => {
    it.each(COPIES)('$what', ({ shape, y, x }) => {
      const random = new Random(x.size);
      const from = empty(device, dtype, [x.size]);
      const bytes = Uint8Array.from({ length: x.size * addon.dtypes[dtype].bytes }, () => random.below(256));
      from.copyRaw(bytes, 0, 'toDevice');
      const to = empty(device, dtype, [y.size]);
      addon.ops.copy_strided({
        y: to,
        x: from,
        y_offset: y.offset,
        x_offset: x.offset,
        shape,
        y_strides: y.strides,
        x_strides: x.strides,
      });
      // Bytes are copied, whatever they mean, and all others are left alone.
      const width = addon.dtypes[dtype].bytes;
      const expected = new Uint8Array(y.size * width).fill(0xff);
      const source = positions(shape, x.strides);
      positions(shape, y.strides).forEach((at, i) => {
        const start = (x.offset + source[i]) * width;
        expected.set(bytes.subarray(start, start + width), (y.offset + at) * width);
      });
      expect(Buffer.compare(bytesOf(to), expected)).toBe(0);
    });
  });

  it('gives the same with any number of threads', () => {
    const x = normal(device, 'float32', new Random(1), [300, 257]);
    const [one, two, three] = [1, 2, 3].map((threads) => {
      const y = empty(device, 'float32', [257, 300]);
      withThreads(threads, () =>
        addon.ops.copy_strided({
          y,
          x,
          y_offset: 0,
          x_offset: 0,
          shape: [1, 1, 257, 300],
          y_strides: [0, 0, 300, 1],
          x_strides: [0, 0, 1, 257],
        }),
      );
      return y;
    });
    expectSameBytes(two, one);
    expectSameBytes(three, one);
  });

  it.each([0, 1, 2, 3])('does nothing where axis %d is empty', (axis) => {
    const y = tensor(device, 'float32', [7]);
    const shape = [2, 3, 4, 5].with(axis, 0) as unknown as Four;
    const strides: Four = [60, 20, 5, 1];
    addon.ops.copy_strided({
      y,
      x: empty(device, 'float32', [0]),
      y_offset: 0,
      x_offset: 0,
      shape,
      y_strides: strides,
      x_strides: strides,
    });
    expect([...valuesOf(y)]).toEqual([7]);
  });

  const call = (
    d: typeof device,
    {
      types = ['float32', 'float32'] as DType[],
      sizes = [6, 6],
      offsets = [0, 0],
      shape = [1, 1, 2, 3] as Four,
      strides = [0, 0, 3, 1] as Four,
    },
  ) =>
    addon.ops.copy_strided({
      y: empty(d, types[0], [sizes[0]]),
      x: empty(d, types[1], [sizes[1]]),
      y_offset: offsets[0],
      x_offset: offsets[1],
      shape,
      y_strides: strides,
      x_strides: strides,
    });
  itRefuses(
    'a target shorter than its strides reach',
    device,
    'copy_strided: y has 5 elements, needs 6',
    (d) => call(d, { sizes: [5, 6] }),
  );
  itRefuses(
    'a source shorter than its offset reaches',
    device,
    'copy_strided: x has 6 elements, needs 7',
    (d) => call(d, { offsets: [0, 1] }),
  );
  itRefuses('two types', device, 'copy_strided: y and x must have one type, not int32 and float32', (d) =>
    call(d, { types: ['int32', 'float32'] }),
  );
  itRefuses(
    'sizes that wrap around, in one place',
    device,
    'copy_strided: the sizes are too large: 4294967296 × 4294967296',
    (d) => call(d, { shape: [2 ** 32, 2 ** 32, 1, 1], strides: [0, 0, 0, 0] }),
  );
  itRefuses(
    'strides that wrap around',
    device,
    'copy_strided: the sizes are too large: 1024 × 9007199254740992',
    (d) => call(d, { shape: [1025, 1, 1, 1], strides: [2 ** 53, 0, 0, 0] }),
  );
};
