import { afterAll, describe, expect, it } from 'vitest';
import { addon, defaultDevice } from './addon.js';
import { NativeTensor } from './native_tensor.js';
import type { Ops } from './ops.js';

const tensors = Array.from({ length: 3 }, () =>
  NativeTensor.from(defaultDevice(), Float32Array.of(1, 2, 3, 4)),
);
const [x, y, z] = tensors;
afterAll(() => {
  for (const t of tensors) t.dispose();
});

const { ops } = addon;
/** The ops as plain JavaScript sees them. */
const untyped = ops as unknown as Record<keyof Ops, (args: object) => void>;

const shape = [1, 1, 1, 4] as const;
const strides = [0, 0, 0, 1] as const;

describe('an op takes its arguments by name', () => {
  it('in any order, optional tensors left out or undefined', () => {
    ops.axpby({ b: 1, a: 2, n: 4, z: x, x, y });
    expect([...y.floats()]).toEqual([3, 6, 9, 12]);
    ops.axpby({ y, x, n: 4, a: 2, b: 1 });
    expect([...y.floats()]).toEqual([2, 4, 6, 8]);
    ops.axpby({ y, x, z: undefined, n: 4, a: 3, b: 1 });
    expect([...y.floats()]).toEqual([3, 6, 9, 12]);
  });

  it('axes as arrays, choices as words', () => {
    z.write(Float32Array.of(4, 1, 3, 0));
    ops.binary({ y, a: x, b: z, op: 'maximum', shape, a_strides: strides, b_strides: strides });
    expect([...y.floats()]).toEqual([4, 2, 3, 4]);
    ops.reduce_axis({ y, x: z, op: 'min', outer: 1, n: 4, inner: 1 });
    expect(y.floats()[0]).toBe(0);
  });
});

// What tsc refuses here (each error is expected, so that it fails without it), is refused when called as well.
describe('a call that does not fit names op and argument', () => {
  it('when one is missing', () => {
    // @ts-expect-error: no x
    expect(() => ops.axpby({ y, n: 4, a: 2, b: 1 })).toThrow('axpby: x is missing');
    // @ts-expect-error: x undefined
    expect(() => ops.axpby({ y, x: undefined, n: 4, a: 2, b: 1 })).toThrow('axpby: x is missing');
    // @ts-expect-error: no n
    expect(() => ops.axpby({ y, x, a: 2, b: 1 })).toThrow('axpby: n is missing');
    // @ts-expect-error: no op
    expect(() => ops.unary({ y, x, n: 4 })).toThrow('unary: op is missing');
  });

  it('when one is unknown, alone or in the place of another', () => {
    // @ts-expect-error: w
    expect(() => ops.axpby({ y, x, w: z, n: 4, a: 2, b: 1 })).toThrow(
      'axpby: no argument is called w; there are y, x, z, n, a, b',
    );
    // @ts-expect-error: size for n
    expect(() => ops.axpby({ y, x, size: 4, a: 2, b: 1 })).toThrow('axpby: n: a number was expected');
    // @ts-expect-error: code for op
    expect(() => ops.unary({ y, x, code: 'exp', n: 4 })).toThrow(
      'unary: op: one of these was expected: negate,',
    );
  });

  it('when one has another kind', () => {
    // @ts-expect-error: a tensor for a number
    expect(() => ops.axpby({ y, x, n: x, a: 2, b: 1 })).toThrow('axpby: n: a number was expected');
    // @ts-expect-error: a number for a tensor that must be there
    expect(() => ops.axpby({ y, x: 7, n: 4, a: 2, b: 1 })).toThrow('axpby: x is missing');
    // @ts-expect-error: a number for a tensor that may be left out
    expect(() => ops.axpby({ y, x, z: 7, n: 4, a: 2, b: 1 })).toThrow('axpby: z: a number was expected');
    const sizes = { m: 1, n: 1, k: 4 };
    // @ts-expect-error: a number for a flag
    expect(() => ops.gemm({ c: y, a: x, b: z, ...sizes, trans_a: 0, trans_b: true })).toThrow(
      'gemm: trans_a: true or false was expected',
    );
    const loop = { y, a: x, b: z, a_strides: strides, b_strides: strides };
    // @ts-expect-error: three axes
    expect(() => ops.binary({ ...loop, op: 'add', shape: [1, 1, 4] })).toThrow(
      'binary: shape: an array of four integers was expected',
    );
    expect(() => ops.binary({ ...loop, op: 'add', shape: [1, 1, 1, 0.5] })).toThrow(
      'binary: shape: an integer was expected, not 0.5',
    );
    // @ts-expect-error: a word that is none
    expect(() => ops.binary({ ...loop, op: 'plus', shape })).toThrow(
      'binary: op: one of these was expected: add, subtract, multiply',
    );
    // @ts-expect-error: a word of another op
    expect(() => ops.reduce_axis({ y, x, op: 'add', outer: 1, n: 4, inner: 1 })).toThrow(
      'reduce_axis: op: one of these was expected: sum, mean, max, min',
    );
    expect(() => untyped.unary({ y, x, op: 'toString', n: 4 })).toThrow(
      'unary: op: one of these was expected',
    );
  });

  it('when a size is none', () => {
    expect(() => ops.axpby({ y, x, n: 1.5, a: 1, b: 0 })).toThrow(
      'axpby: n: an integer was expected, not 1.5',
    );
    expect(() => ops.axpby({ y, x, n: -1, a: 1, b: 0 })).toThrow('axpby: n: a size is negative: -1');
  });
});
