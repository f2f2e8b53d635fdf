import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addon, defaultDevice } from '../../device/addon.js';
import { NativeTensor } from '../../device/native_tensor.js';
import { BACKEND, fallbackCounts, tensorOf } from '../index.js';

// Every native kernel against TF.js's CPU backend, at sizes that fill vectors with a remainder and that several
// threads share. tfjs-core's own specs (tests/conformance) cover the corner cases of each, on a few elements.

const inputs: Record<string, tf.Tensor> = {};

beforeAll(async () => {
  await tf.setBackend('cpu');
  const normal = (shape: number[], seed: number) => tf.randomNormal(shape, 0, 1, 'float32', seed);
  Object.assign(inputs, {
    // 3 · 53 · 131 = 20,829 elements: more than a thread takes alone.
    x: normal([3, 53, 131], 1),
    y: normal([3, 53, 131], 2),
    column: normal([53, 1], 3),
    row: normal([131], 4),
    middle: normal([3, 1, 131], 5),
    positive: tf.add(tf.abs(normal([3, 53, 131], 6)), 0.01),
    i: tf.cast(tf.mul(normal([3, 53, 131], 7), 1e3), 'int32'),
    j: tf.cast(tf.mul(normal([53, 1], 8), 1e3), 'int32'),
    truth: tf.greater(normal([3, 53, 131], 9), 0),
    a: normal([3, 33, 35], 10),
    at: normal([3, 35, 33], 11),
    b: normal([3, 35, 29], 12),
    bt: normal([3, 29, 35], 13),
    one: normal([35, 29], 14),
    heads: normal([2, 1, 33, 35], 15),
    bias: normal([29], 16),
    ids: tf.tensor(
      Array.from({ length: 700 }, (_, k) => (k * 37) % 67),
      [7, 100],
      'int32',
    ),
    many: normal([7, 100, 65], 17),
    table: normal([67, 131], 18),
  });
});

afterAll(() => tf.dispose(inputs));

type Op = (t: Record<string, tf.Tensor>) => tf.Tensor | tf.Tensor[];

const cases: Record<string, Op> = {
  Add: ({ x, y }) => tf.add(x, y),
  'Add, a row and a column': ({ row, column }) => tf.add(row, column),
  'Add, along the middle': ({ x, middle }) => tf.add(x, middle),
  'Add, int32': ({ i, j }) => tf.add(i, j),
  'Multiply, int32 that overflows': ({ i }) => tf.mul(tf.mul(i, i), 4097),
  AddN: ({ x, y, positive }) => tf.addN([x, y, positive]),
  Sub: ({ x, row }) => tf.sub(x, row),
  Multiply: ({ column, x }) => tf.mul(column, x),
  'Multiply, by a scalar': ({ x }) => tf.mul(x, 3),
  RealDiv: ({ x, positive }) => tf.div(x, positive),
  Maximum: ({ x, y }) => tf.maximum(x, y),
  Minimum: ({ x, column }) => tf.minimum(x, column),
  SquaredDifference: ({ x, y }) => tf.squaredDifference(x, y),
  Equal: ({ i, j }) => tf.equal(i, j),
  NotEqual: ({ x, y }) => tf.notEqual(x, y),
  Less: ({ x, row }) => tf.less(x, row),
  LessEqual: ({ i, j }) => tf.lessEqual(i, j),
  Greater: ({ x, y }) => tf.greater(x, y),
  GreaterEqual: ({ x, y }) => tf.greaterEqual(x, y),
  Neg: ({ x }) => tf.neg(x),
  Abs: ({ x }) => tf.abs(x),
  Square: ({ x }) => tf.square(x),
  Sqrt: ({ positive }) => tf.sqrt(positive),
  Rsqrt: ({ positive }) => tf.rsqrt(positive),
  Reciprocal: ({ x }) => tf.reciprocal(x),
  Exp: ({ x }) => tf.exp(tf.mul(x, 10)),
  'Exp, out of range': () => tf.exp(tf.tensor([-200, -95, 88.5, 89, 1e9, -1e9, Number.NaN])),
  Log: ({ positive }) => tf.log(positive),
  Sigmoid: ({ x }) => tf.sigmoid(tf.mul(x, 20)),
  Tanh: ({ x }) => tf.tanh(x),
  'Sum, last axis': ({ x }) => tf.sum(x, -1),
  'Sum, first axis': ({ x }) => tf.sum(x, 0),
  'Sum, two axes apart': ({ x }) => tf.sum(x, [0, 2], true),
  'Sum, all': ({ x }) => tf.sum(x),
  'Sum, of truth values': ({ truth }) => tf.sum(truth, 1),
  'Sum, int32': ({ i }) => tf.sum(i, 0),
  Mean: ({ x }) => tf.mean(x, [1, 2]),
  'Mean, middle axis': ({ x }) => tf.mean(x, 1),
  'Mean, of truth values': ({ truth }) => tf.mean(truth),
  Max: ({ x }) => tf.max(x, -1),
  'Max, middle axis, int32': ({ i }) => tf.max(i, 1, true),
  Min: ({ x }) => tf.min(x, 0),
  Softmax: ({ x }) => tf.softmax(x),
  BatchMatMul: ({ a, b }) => tf.matMul(a, b),
  'BatchMatMul, A transposed': ({ at, b }) => tf.matMul(at, b, true),
  'BatchMatMul, B transposed': ({ a, bt }) => tf.matMul(a, bt, false, true),
  'BatchMatMul, both transposed': ({ at, bt }) => tf.matMul(at, bt, true, true),
  'BatchMatMul, one B for all': ({ a, one }) => tf.matMul(a, one),
  'BatchMatMul, one B for all, A transposed': ({ at, one }) => tf.matMul(at, one, true),
  _FusedMatMul: ({ a, b, bias }) => tf.fused.matMul({ a, b, bias: bias as tf.Tensor1D }),
  'Cast, int32 to float32': ({ i }) => tf.cast(i, 'float32'),
  'Cast, float32 to int32': ({ x }) => tf.cast(tf.mul(x, 1e9), 'int32'),
  'Cast, float32 to bool': ({ x }) => tf.cast(tf.cast(x, 'int32'), 'bool'),
  'Cast, bool to float32': ({ truth }) => tf.cast(truth, 'float32'),
  Transpose: ({ x }) => tf.transpose(x, [2, 0, 1]),
  'Transpose, int32': ({ i }) => tf.transpose(i, [1, 0, 2]),
  'Transpose, bool': ({ truth }) => tf.transpose(truth),
  Slice: ({ x }) => tf.slice(x, [1, 2, 3], [2, 50, 101]),
  PadV2: ({ x }) =>
    tf.pad(
      x,
      [
        [1, 0],
        [0, 2],
        [3, 3],
      ],
      0.5,
    ),
  Tile: ({ x }) => tf.tile(x, [2, 1, 3]),
  Concat: ({ x, y }) => tf.concat([x, y, tf.slice(x, [0, 0, 0], [3, 53, 2])], 2),
  Pack: ({ x, y }) => tf.stack([x, y], 1),
  SplitV: ({ x }) => tf.split(x, [13, 36, 4], 1),
  Unpack: ({ x }) => tf.unstack(x, 1),
  GatherV2: ({ table, ids }) => tf.gather(table, ids),
  'GatherV2, int32': ({ i }) => tf.gather(i, tf.tensor([2, 0, 2], [3], 'int32')),
  UnsortedSegmentSum: ({ many, ids }) =>
    tf.unsortedSegmentSum(tf.reshape(many, [700, 65]), tf.reshape(ids, [700]) as tf.Tensor1D, 67),
};

/** What an op gives on a backend: dtype, shape and values of each output. */
async function run(backend: string, op: Op) {
  await tf.setBackend(backend);
  return tf.tidy(() => {
    const result = op(inputs);
    return (Array.isArray(result) ? result : [result]).map((t) => ({
      dtype: t.dtype,
      shape: t.shape,
      values: Array.from(t.dataSync()),
    }));
  });
}

describe('native kernels', () => {
  it.each(Object.entries(cases))('%s', async (_, op) => {
    const expected = await run('cpu', op);
    const before = fallbackCounts();
    const actual = await run(BACKEND, op);
    expect(fallbackCounts()).toEqual(before);
    expect(actual.map(({ dtype, shape }) => ({ dtype, shape }))).toEqual(
      expected.map(({ dtype, shape }) => ({ dtype, shape })),
    );
    actual.forEach(({ dtype, values }, output) => {
      const reference = expected[output].values;
      // float32: the reference computes in float64 and rounds; sums of up to 20,829 terms and products of 35 stay
      // within 1e-5 of the largest partial value, which is of the order of 100 here.
      const worst = values.reduce((most, v, k) => {
        if (Object.is(v, reference[k]) || v === reference[k]) return most;
        return Math.max(
          most,
          Math.abs(v - reference[k]) / (1 + Math.abs(reference[k])) || Number.POSITIVE_INFINITY,
        );
      }, 0);
      expect(worst).toBeLessThanOrEqual(dtype === 'float32' ? 1e-5 : 0);
    });
  });

  it('multiply batches that broadcast both ways, which the reference does not', async () => {
    await tf.setBackend(BACKEND);
    tf.tidy(() => {
      const { heads, b } = inputs;
      const tiled = tf.matMul(tf.tile(heads, [1, 3, 1, 1]), tf.tile(tf.expandDims(b, 0), [2, 1, 1, 1]));
      expect(tf.matMul(heads, b).dataSync()).toEqual(tiled.dataSync());
    });
  });

  it('calculate in float32 with memory of the engine in bfloat16', async () => {
    await tf.setBackend(BACKEND);
    const weight = NativeTensor.onHeap(defaultDevice(), 'bfloat16', [2, 2]);
    weight.write(Float32Array.of(1, 2, 3, 4));
    const before = addon.stats(defaultDevice()).arenaInUse;
    tf.tidy(() => {
      const w = tensorOf(weight);
      const x = tf.tensor2d([0.001, 1, 1, 1.001], [2, 2]);
      expect([...tf.matMul(w, w).dataSync()]).toEqual([7, 10, 15, 22]);
      expect(tf.matMul(w, x).dataSync()[3]).toBeCloseTo(3 + 4 * 1.001, 5);
      expect([...tf.mul(x, w).dataSync()]).toEqual([...Float32Array.of(0.001, 2, 3, 1.001 * 4)]);
      expect([...tf.concat([w, x], 0).dataSync()].slice(0, 5)).toEqual([1, 2, 3, 4, Math.fround(0.001)]);
      expect([...tf.exp(w).dataSync()][0]).toBeCloseTo(Math.E, 5);
      expect([...tf.sum(w, 0).dataSync()]).toEqual([4, 6]);
      expect([...tf.transpose(w).dataSync()]).toEqual([1, 3, 2, 4]);
      expect([...tf.gather(w, [1]).dataSync()]).toEqual([3, 4]);
      expect([...tf.zerosLike(w).dataSync()]).toEqual([0, 0, 0, 0]);
      expect([...tf.addN([w, x]).dataSync()][3]).toBe(Math.fround(5.001));
    });
    expect(addon.stats(defaultDevice()).arenaInUse).toBe(before);
    weight.dispose();
  });
});
