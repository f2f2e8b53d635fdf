import * as tf from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { addon, defaultDevice } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';
import { BACKEND, fallbackCounts, tensorOf } from './index.js';

it('trains with TF.js’s own tape and optimizers for 1,000 steps without a leak', async () => {
  await tf.setBackend(BACKEND);
  const classes = 5;
  const x = tf.randomNormal([16, 7], 0, 1, 'float32', 1);
  const labels = tf.tidy(() => tf.argMax(tf.slice(x, [0, 0], [16, classes]), 1));
  const embedding = tf.variable(tf.randomNormal([classes, 7], 0, 0.1, 'float32', 2));
  const weight = tf.variable(tf.randomNormal([7, classes], 0, 0.1, 'float32', 3));
  // A parameter of the engine that takes part in the forward pass, as a frozen one does.
  const frozen = NativeTensor.from(defaultDevice(), new Float32Array(7).fill(1));
  const scale = tensorOf(frozen);
  const optimizer = tf.train.adam(0.01);

  const step = (): number =>
    tf.tidy(() => {
      const loss = optimizer.minimize(() => {
        const h = tf.mul(tf.add(x, tf.gather(embedding, labels as tf.Tensor1D)), scale);
        const logits = tf.matMul(h as tf.Tensor2D, weight as tf.Tensor2D);
        // OneHot has no native form: a fallback in every step.
        const target = tf.oneHot(labels, classes);
        const logProbability = tf.log(tf.softmax(logits));
        return tf.neg(tf.mean(tf.sum(tf.mul(logProbability, target), -1))) as tf.Scalar;
      }, true);
      return loss!.dataSync()[0];
    });
  const memory = () => {
    const { numTensors, numDataBuffers, numBytes } = tf.memory();
    const { heapBytes, arenaInUse } = addon.stats(defaultDevice());
    return { numTensors, numDataBuffers, numBytes, heapBytes, arenaInUse };
  };

  const first = step();
  const after = memory();
  const fallbacks = fallbackCounts().get('OneHot')!;
  let last = first;
  for (let i = 0; i < 1000; i++) last = step();
  expect(memory()).toEqual(after);
  expect(fallbackCounts().get('OneHot')).toBe(fallbacks + 1000);
  expect(last).toBeLessThan(0.1 * first);
  expect([...frozen.floats()]).toEqual(new Array(7).fill(1));

  tf.dispose([x, labels, embedding, weight, scale]);
  optimizer.dispose();
  frozen.dispose();
});
