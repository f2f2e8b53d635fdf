import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import type { MicroBatch } from '../../../batch.js';
import { lossSum } from '../../../tests/loss_sum.js';
import { Random } from '../../../tests/op_cases.js';
import { readSafetensors } from '../../../tests/read_safetensors.js';
import { addon, defaultDevice } from '../../device/addon.js';
import { readLlamaConfig } from '../../model/config.js';
import { LlamaForCausalLM } from '../../model/llama.js';
import { Gradients, Parameters, type Precision } from '../../model/parameters.js';
import { BACKEND } from '../index.js';
import { linearCrossEntropy } from './linear_cross_entropy.js';
import { llamaLogits, llamaLoss, type NamedWeights } from './llama.js';

beforeAll(async () => {
  await tf.setBackend(BACKEND);
});

function load(name: string) {
  const directory = join(import.meta.dirname, '../../../tests/fixtures/llama', name);
  const config = readLlamaConfig(directory);
  const file = readSafetensors(join(directory, 'model.safetensors'));
  const values = (key: string) => Float32Array.from(file.get(key)!.data as Float32Array);
  return { config, file, values };
}

function tensors({ file, values }: ReturnType<typeof load>, names: string[]): NamedWeights {
  return Object.fromEntries(names.map((key) => [key, tf.tensor(values(key), [...file.get(key)!.shape])]));
}

function explicitModel({ config, values }: ReturnType<typeof load>, precision: Precision): LlamaForCausalLM {
  const parameters = new Parameters(config, defaultDevice(), precision);
  for (const { name } of parameters.entries) {
    const tensor = parameters.tensor(name);
    tensor.write(values(name));
    tensor.dispose();
  }
  return new LlamaForCausalLM(parameters);
}

/** Documents of 9, 1 and 14 tokens, most of them labelled. */
function microBatch(vocab: number): MicroBatch {
  const random = new Random(vocab);
  const ids = Int32Array.from({ length: 24 }, () => random.below(vocab));
  const targets = ids.map((_, t) => (t % 5 === 0 || [8, 9, 23].includes(t) ? -100 : ids[t + 1]));
  return { ids, targets, documentOffsets: Int32Array.of(0, 9, 10, 24) };
}

function memory() {
  const { numTensors, numDataBuffers, numBytes } = tf.memory();
  const { heapBytes, arenaInUse } = addon.stats(defaultDevice());
  return { numTensors, numDataBuffers, numBytes, heapBytes, arenaInUse };
}

describe.each(['gqa-tied', 'mha-untied', 'rope-dynamic'])('%s', (name) => {
  const files = load(name);
  const { config } = files;
  const batch = microBatch(config.vocabSize);
  const labels = batch.targets.filter((target) => target !== -100).length;

  it.each(['fp32', 'bf16'] as const)(
    'the loss and all gradients equal forwardBackward bit by bit in %s',
    (precision) => {
      const before = memory();
      const model = explicitModel(files, precision);
      const { layout } = model.parameters;
      const gradients = new Gradients(model.parameters);
      const expected = lossSum(model.forwardBackward(batch, 1 / labels, gradients)) / labels;
      const flat = gradients.flat.floats();
      tf.tidy(() => {
        const names = layout.entries.map((e) => e.name);
        const weights = tensors(files, names);
        for (const gradientCheckpointing of [false, true]) {
          const loss = (...w: tf.Tensor[]) =>
            llamaLoss(config, Object.fromEntries(names.map((key, i) => [key, w[i]])), batch, {
              precision,
              gradientCheckpointing,
            });
          const { value, grads } = tf.valueAndGrads(loss)(Object.values(weights));
          expect(value.dataSync()[0]).toBe(Math.fround(expected));
          layout.entries.forEach(({ name: key, shape, offset, size }, i) => {
            expect(grads[i].shape).toEqual([...shape]);
            expect([...grads[i].dataSync()], key).toEqual([...flat.subarray(offset, offset + size)]);
          });
          // Without a tape only the loss is made: the same numbers, summed in another order and rounded to float32.
          expect(Math.abs(loss(...Object.values(weights)).dataSync()[0] - expected)).toBeLessThanOrEqual(
            1e-6 * expected,
          );
        }
      });
      gradients.dispose();
      model.dispose();
      expect(memory()).toEqual(before);
    },
  );

  it('the logits equal the explicit ones, and their gradients the loss’s, to rounding', () => {
    const before = memory();
    const model = explicitModel(files, 'fp32');
    const { layout } = model.parameters;
    const logits = model.logits(batch);
    const gradients = new Gradients(model.parameters);
    model.forwardBackward(batch, 1 / labels, gradients).dispose();
    const flat = gradients.flat.floats();
    tf.tidy(() => {
      const names = layout.entries.map((e) => e.name);
      const weights = tensors(files, names);
      const made = llamaLogits(config, weights, batch);
      expect(made.shape).toEqual([24, config.vocabSize]);
      const values = logits.floats();
      // The same kernels on the same numbers.
      expect([...made.dataSync()]).toEqual([...values]);

      // Cross entropy by way of an identity as the head. The head's GEMM then has other rows than the model's, and the
      // two gradients of a tied embedding are added in another order: float32 rounding of sums.
      const identity = tf.eye(config.vocabSize);
      const targets = tf.tensor1d(batch.targets, 'int32');
      const loss = (...w: tf.Tensor[]) => {
        const named = Object.fromEntries(names.map((key, i) => [key, w[i]]));
        return tf.mean(linearCrossEntropy(llamaLogits(config, named, batch), identity, targets));
      };
      const grads = tf.grads(loss)(Object.values(weights));
      layout.entries.forEach(({ name: key, offset, size }, i) => {
        const expected = flat.subarray(offset, offset + size);
        const largest = Math.max(...expected.map(Math.abs));
        const difference = Math.max(...grads[i].dataSync().map((g, at) => Math.abs(g - expected[at])));
        expect(difference, key).toBeLessThanOrEqual(2e-5 * largest);
      });
    });
    for (const t of [logits, gradients, model]) t.dispose();
    expect(memory()).toEqual(before);
  });
});

it('trains under a TF.js optimizer, some weights frozen, without leaks', () => {
  const files = load('gqa-tied');
  const batch = microBatch(files.config.vocabSize);
  const start = memory();
  const file = tf.tidy(() =>
    tensors(
      files,
      [...files.file.keys()].filter((key) => files.file.get(key)!.shape.length > 0),
    ),
  );
  const weights: NamedWeights = {};
  for (const [key, value] of Object.entries(file)) {
    const frozen = key === 'model.embed_tokens.weight';
    weights[key] = frozen ? value : tf.variable(value);
    if (!frozen) value.dispose();
  }
  const optimizer = tf.train.adam(0.01);
  const step = () =>
    tf.tidy(() => optimizer.minimize(() => llamaLoss(files.config, weights, batch), true)!.dataSync()[0]);
  const first = step();
  const before = memory();
  let last = first;
  for (let i = 0; i < 5; i++) last = step();
  expect(last).toBeLessThan(0.8 * first);
  expect(memory()).toEqual(before);
  optimizer.dispose();
  tf.dispose(weights);
  expect(memory()).toEqual(start);
});

it('a micro-batch without labels has loss 0 and gradients 0', () => {
  const files = load('gqa-tied');
  const { ids, documentOffsets } = microBatch(files.config.vocabSize);
  const batch = { ids, documentOffsets, targets: new Int32Array(24).fill(-100) };
  tf.tidy(() => {
    const weights = tensors(files, [...files.file.keys()]);
    expect(llamaLoss(files.config, weights, batch).dataSync()[0]).toBe(0);
    const norm = weights['model.norm.weight'];
    const gradient = tf.grad((w) => llamaLoss(files.config, { ...weights, 'model.norm.weight': w }, batch))(
      norm,
    );
    expect([...gradient.dataSync()]).toEqual(new Array(norm.size).fill(0));
  });
});

it('names the weight that is missing or does not fit', () => {
  const files = load('mha-untied');
  const { config } = files;
  const batch = microBatch(config.vocabSize);
  tf.tidy(() => {
    const weights = tensors(files, [...files.file.keys()]);
    const { 'lm_head.weight': _, ...rest } = weights;
    const { vocabSize: v, hiddenSize: c } = config;
    expect(() => llamaLoss(config, rest, batch)).toThrow(`the weight lm_head.weight [${v},${c}] is missing`);
    expect(() => llamaLogits(config, { ...weights, 'model.norm.weight': tf.ones([c + 1]) }, batch)).toThrow(
      `the weight model.norm.weight has the shape [${c + 1}], not [${c}]`,
    );
  });
});
