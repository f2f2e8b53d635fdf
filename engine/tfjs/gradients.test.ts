import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { Random } from '../../tests/op_cases.js';
import { BACKEND } from './index.js';

beforeAll(async () => {
  await tf.setBackend(BACKEND);
});

const FUNCTIONS: Record<string, (x: tf.Tensor, y: tf.Tensor) => tf.Tensor> = {
  add: (x, y) => tf.add(x, y),
  sub: (x, y) => tf.sub(x, y),
  mul: (x, y) => tf.mul(x, y),
  div: (x, y) => tf.div(x, tf.add(tf.square(y), 1)),
  maximum: (x, y) => tf.maximum(x, y),
  minimum: (x, y) => tf.minimum(x, y),
  squaredDifference: (x, y) => tf.squaredDifference(x, y),
  exp: (x) => tf.exp(x),
  sigmoid: (x) => tf.sigmoid(x),
  tanh: (x) => tf.tanh(x),
  log: (x) => tf.log(tf.add(tf.square(x), 1)),
  softmax: (x) => tf.softmax(x),
  max: (x) => tf.max(x, 1),
  mean: (x) => tf.mean(x, 0),
  matMul: (x, y) => tf.matMul(x, y, false, true),
};

describe.each(Object.entries(FUNCTIONS))('%s', (_, f) => {
  it('has the slope that its gradient says, of each input', () => {
    tf.tidy(() => {
      const random = new Random(7);
      const normal = (shape: number[]) =>
        tf.tensor(Float32Array.from(random.normals(tf.util.sizeFromShape(shape))), shape);
      const inputs = [normal([4, 5]), normal([4, 5])];
      const weights = normal(f(inputs[0], inputs[1]).shape);
      const loss = (x: tf.Tensor, y: tf.Tensor) => tf.sum(tf.mul(f(x, y), weights)) as tf.Scalar;
      const used = f.length; // as many inputs as the function names
      expect(used).toBeGreaterThan(0);
      inputs.slice(0, used).forEach((x, i) => {
        const along = (t: tf.Tensor) => (i === 0 ? loss(t, inputs[1]) : loss(inputs[0], t));
        const direction = normal([4, 5]);
        const expected = tf.sum(tf.mul(tf.grad(along)(x), direction)).dataSync()[0];
        const at = (step: number) => along(tf.add(x, tf.mul(direction, step))).dataSync()[0];
        // A float32 loss of order 10, 0.002 apart: right to about 10⁻³.
        const slope = (at(1e-3) - at(-1e-3)) / 2e-3;
        expect(Math.abs(slope - expected)).toBeLessThanOrEqual(1e-2 * Math.max(1, Math.abs(expected)));
      });
    });
  });
});

it.each([tf.sum, tf.mean])('of nothing there is nothing', (f) => {
  tf.tidy(() => {
    expect(tf.grad((x) => f(x))(tf.zeros([0])).shape).toEqual([0]);
    expect(tf.grad((x) => f(x, 0))(tf.zeros([0, 3])).shape).toEqual([0, 3]);
  });
});
