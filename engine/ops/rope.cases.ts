import { describe, expect, it } from 'vitest';
import {
  dot,
  empty,
  expectClose,
  expectGradient,
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
import { addon, type DeviceName } from '../device/addon.js';
import { ropeInPlace } from './rope.js';

const ROWS = 7;

/** Angles of no particular order, with a factor on cos and sin as YaRN has it. */
function angles(device: DeviceName, random: Random, tokens: number, headDim: number) {
  const turns = random.normals((ROWS * headDim) / 2).map((x) => 10 * x);
  return {
    cos: tensor(
      device,
      'float32',
      turns.map((x) => 1.2 * Math.cos(x)),
      [ROWS, headDim / 2],
    ),
    sin: tensor(
      device,
      'float32',
      turns.map((x) => 1.2 * Math.sin(x)),
      [ROWS, headDim / 2],
    ),
    index: tensor(
      device,
      'int32',
      Array.from({ length: tokens }, () => random.below(ROWS)),
    ),
  };
}

/** (a, b) → (a·cos − b·sin, b·cos + a·sin) for the halves a, b of the first `heads` heads of each row. */
function reference(
  x: Float64Array,
  [cos, sin, index]: Float64Array[],
  heads: number,
  headDim: number,
): Float64Array {
  const y = x.slice();
  const half = headDim / 2;
  const stride = x.length / index.length;
  index.forEach((row, t) => {
    for (let h = 0; h < heads; h++)
      for (let i = 0; i < half; i++) {
        const at = t * stride + h * headDim + i;
        const [c, s] = [cos[row * half + i], sin[row * half + i]];
        y[at] = x[at] * c - x[at + half] * s;
        y[at + half] = x[at + half] * c + x[at] * s;
      }
  });
  return y;
}

export const cases: OpCases = (device) => {
  describe.each(FLOATS)('%s', (type) => {
    it.each([
      { tokens: 1, heads: 1, headDim: 2, beyond: 0 },
      { tokens: 3, heads: 5, headDim: 6, beyond: 6 },
      { tokens: 17, heads: 6, headDim: 12, beyond: 0 },
      { tokens: 5, heads: 3, headDim: 48, beyond: 1 },
      { tokens: 65, heads: 4, headDim: 64, beyond: 128 },
      { tokens: 3, heads: 36, headDim: 128, beyond: 512 },
    ])('$tokens tokens, $heads heads of $headDim, $beyond elements beyond', (z) => {
      const random = new Random(z.headDim);
      const stride = z.heads * z.headDim + z.beyond;
      const x = normal(device, type, random, [z.tokens, stride]);
      const dy = normal(device, type, random, [z.tokens, stride]);
      const [fx, fdy] = [x, dy].map(valuesOf);
      const table = angles(device, random, z.tokens, z.headDim);
      const { cos, sin, index } = table;
      const turn = (v: Float64Array) => reference(v, [cos, sin, index].map(valuesOf), z.heads, z.headDim);

      ropeInPlace(x, table, z.heads);
      // Two products that may cancel, in float32, and one rounding.
      expectClose(valuesOf(x), turn(fx), { relative: ROUNDING[type], absolute: 1e-6 });
      // Backward is rope itself, turned the other way.
      ropeInPlace(dy, table, z.heads, true);
      expectGradient((v) => dot(turn(v), fdy), fx, valuesOf(dy), type === 'float32' ? 1e-6 : 2 ** -7);
    });

    it('gives the same with any number of threads', () => {
      const [one, three] = [1, 3].map((threads) => {
        const random = new Random(3);
        const x = normal(device, type, random, [130, 128]);
        withThreads(threads, () => ropeInPlace(x, angles(device, random, 130, 64), 2));
        return x;
      });
      expectSameBytes(three, one);
    });
  });

  const call = (d: DeviceName, index: number, headDim: number, stride: number, rows = 2) =>
    addon.ops.rope({
      x: empty(d, 'float32', [2 * stride]),
      cos: empty(d, 'float32', [8]),
      sin: empty(d, 'float32', [4 * rows]),
      index: tensor(d, 'int32', [0, index]),
      tokens: 2,
      heads: 1,
      head_dim: headDim,
      stride,
      inverse: false,
    });
  itRefuses('an odd head_dim', device, 'rope: head_dim is 5, it must be even', (d) => call(d, 0, 5, 8));
  itRefuses(
    'rows that cannot hold the heads',
    device,
    'rope: a row of 6 elements cannot hold 1 heads of 8',
    (d) => call(d, 0, 8, 6),
  );
  itRefuses('a short buffer', device, 'rope: index has 1 elements, needs 2', (d) => {
    const x = empty(d, 'float32', [16]);
    addon.ops.rope({
      x,
      cos: x,
      sin: x,
      index: empty(d, 'int32', [1]),
      tokens: 2,
      heads: 1,
      head_dim: 8,
      stride: 8,
      inverse: false,
    });
  });
  it('does nothing to no tokens', () => {
    expect(() => {
      const none = empty(device, 'float32', [0]);
      const table = empty(device, 'float32', [4]);
      addon.ops.rope({
        x: none,
        cos: table,
        sin: table,
        index: empty(device, 'int32', [0]),
        tokens: 0,
        heads: 1,
        head_dim: 8,
        stride: 8,
        inverse: false,
      });
    }).not.toThrow();
  });
};
