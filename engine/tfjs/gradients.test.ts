import * as tf from '@tensorflow/tfjs-core';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Random } from '../../tests/op_cases.js';
import { BACKEND } from './index.js';

beforeAll(async () => {
  await tf.setBackend(BACKEND);
});
afterEach(async () => {
  await tf.setBackend(BACKEND);
});

const FUNCTIONS: Record<string, (x: tf.Tensor, y: tf.Tensor) => tf.Tensor> = {
  add: (x, y) => tf.add(x, y),
  sub: (x, y) => tf.sub(x, y),
  mul: (x, y) => tf.mul(x, y),
  div: (x, y) => tf.div(x, tf.add(tf.square(y), 1)),
  pow: (x, y) => tf.pow(tf.add(tf.abs(x), 0.5), y),
  maximum: (x, y) => tf.maximum(x, y),
  minimum: (x, y) => tf.minimum(x, y),
  squaredDifference: (x, y) => tf.squaredDifference(x, y),
  abs: (x) => tf.abs(x),
  exp: (x) => tf.exp(x),
  log: (x) => tf.log(tf.add(tf.square(x), 1)),
  sqrt: (x) => tf.sqrt(tf.add(tf.square(x), 1)),
  sin: (x) => tf.sin(x),
  erf: (x) => tf.erf(x),
  relu: (x) => tf.relu(x),
  relu6: (x) => tf.relu6(tf.mul(x, 5)),
  leakyRelu: (x) => tf.leakyRelu(x),
  prelu: (x, y) => tf.prelu(x, y),
  elu: (x) => tf.elu(x),
  softplus: (x) => tf.softplus(x),
  sigmoid: (x) => tf.sigmoid(x),
  tanh: (x) => tf.tanh(x),
  clipByValue: (x) => tf.clipByValue(x, -0.5, 0.5),
  softmax: (x) => tf.softmax(x),
  logSoftmax: (x) => tf.logSoftmax(x),
  max: (x) => tf.max(x, 1),
  mean: (x) => tf.mean(x, 0),
  prod: (x) => tf.prod(x, 1),
  cumsum: (x) => tf.cumsum(x, 1),
  matMul: (x, y) => tf.matMul(x, y, false, true),
  gather: (x) => tf.gather(x, tf.tensor1d([2, 0, 2], 'int32')),
  slice: (x) => tf.slice(x, [1, 2], [2, 3]),
  pad: (x) =>
    tf.pad(x, [
      [1, 0],
      [0, 2],
    ]),
  concat: (x, y) => tf.concat([x, y], 1),
  transpose: (x) => tf.transpose(x),
  tile: (x) => tf.tile(x, [2, 3]),
  where: (x, y) => tf.where(tf.tensor([true, false, false, true, true]), y, x),
  conv1d: (x, y) => tf.conv1d(tf.reshape(x, [4, 5, 1]) as tf.Tensor3D, tf.reshape(y, [5, 1, 4]), 1, 'same'),
};

describe.each(Object.entries(FUNCTIONS))('%s', (_, f) => {
  const used = f.length; // as many inputs as the function names

  /** Σ weights · f(x, y), and its gradients, on the backend that is active. */
  function gradients() {
    return tf.tidy(() => {
      const random = new Random(7);
      const normal = (shape: number[]) =>
        tf.tensor(Float32Array.from(random.normals(tf.util.sizeFromShape(shape))), shape);
      const inputs = [normal([4, 5]), normal([4, 5])];
      const weights = normal(f(inputs[0], inputs[1]).shape);
      const loss = (x: tf.Tensor, y: tf.Tensor) => tf.sum(tf.mul(f(x, y), weights)) as tf.Scalar;
      return inputs.slice(0, used).map((x, i) => {
        const along = (t: tf.Tensor) => (i === 0 ? loss(t, inputs[1]) : loss(inputs[0], t));
        const gradient = tf.grad(along)(x);
        const direction = normal([4, 5]);
        const at = (step: number) => along(tf.add(x, tf.mul(direction, step))).dataSync()[0];
        return {
          values: gradient.dataSync(),
          derivative: tf.sum(tf.mul(gradient, direction)).dataSync()[0],
          slope: (at(1e-3) - at(-1e-3)) / 2e-3,
        };
      });
    });
  }

  it('has the slope that its gradient says, of each input', () => {
    expect(used).toBeGreaterThan(0);
    // A float32 loss of order 10, 0.002 apart: right to about 10⁻³.
    for (const { derivative, slope } of gradients())
      expect(Math.abs(slope - derivative)).toBeLessThanOrEqual(1e-2 * Math.max(1, Math.abs(derivative)));
  });

  it("has the gradient of TF.js's CPU backend", async () => {
    const own = gradients();
    await tf.setBackend('cpu');
    // The same formulas in float32; sums of at most some tens of terms of order 1, perhaps in another order.
    for (const [i, { values }] of gradients().entries())
      values.forEach((expected, at) => {
        expect(Math.abs(own[i].values[at] - expected)).toBeLessThanOrEqual(
          1e-5 * Math.max(1, Math.abs(expected)),
        );
      });
  });
});

it("works as TF.js's documentation says: ops are methods, gradients have gradients", () => {
  tf.tidy(() => {
    const x = tf.tensor1d([2, 3]);
    expect([
      ...tf
        .grad((x) => x.square())(x)
        .dataSync(),
    ]).toEqual([4, 6]);
    const ofOf = tf.grad((x) => tf.grad((x) => x.mul(x.square()))(x));
    expect([...ofOf(x).dataSync()]).toEqual([12, 18]);
    expect([...x.sub(2.5).abs().clipByValue(0, 0.25).relu().dataSync()]).toEqual([0.25, 0.25]);
  });
});

it.each([tf.sum, tf.mean])('of nothing there is nothing', (f) => {
  tf.tidy(() => {
    expect(tf.grad((x) => f(x))(tf.zeros([0])).shape).toEqual([0]);
    expect(tf.grad((x) => f(x, 0))(tf.zeros([0, 3])).shape).toEqual([0, 3]);
  });
});
