import { describe, expect, it } from 'vitest';
import { IGNORE_INDEX, type MicroBatch } from '../../batch.js';
import { TINY } from '../../tests/tiny_run.js';
import { defaultDevice } from '../device/addon.js';
import { sizeOf } from '../device/native_tensor.js';
import { parseLlamaConfig } from './config.js';
import { layoutOf } from './layout.js';
import { LlamaForCausalLM } from './llama.js';
import { Gradients, Parameters } from './parameters.js';
import { causalLmSpecs, EMBEDDING, HEAD } from './specs.js';

const config = (keys: object) => parseLlamaConfig({ ...TINY, ...keys }, 'test');

/** One document; the first token's label is none. */
function batchOf(ids: number[], labels = ids.slice(1)): MicroBatch {
  return {
    ids: Int32Array.from(ids),
    targets: Int32Array.from([...labels, IGNORE_INDEX]),
    documentOffsets: Int32Array.of(0, ids.length),
  };
}

describe('rows of zeros behind those of the words', () => {
  const specs = causalLmSpecs(config({}));

  it('have their place in the flat buffers, and are no parameters', () => {
    const [without, padded] = [1, 128].map((step) => layoutOf(specs, step));
    for (const { name, shape, rows, size } of padded.entries) {
      expect(rows).toBe(name === EMBEDDING || name === HEAD ? 128 : shape[0]);
      expect(size).toBe(sizeOf(shape));
    }
    expect(padded.parameters).toBe(without.parameters);
    // 75 rows of 24 each; groups begin at multiples of 128.
    expect(padded.size - without.size).toBe(2 * 128 * 24 - 2 * Math.ceil((53 * 24) / 128) * 128);
  });

  it('stay zeros, as far as the device has any', () => {
    for (const precision of ['fp32', 'bf16'] as const) {
      const model = new LlamaForCausalLM(new Parameters(config({}), defaultDevice(), precision));
      model.parameters.initialize(1);
      const gradients = new Gradients(model.parameters);
      model.forwardBackward(batchOf([1, 52, 7, 9, 52]), 1, gradients).dispose();
      const [values, flat] = [model.parameters.flat, gradients.flat].map((t) => t.floats());
      for (const { shape, offset, size, rows } of model.parameters.entries)
        for (const buffer of [values, flat]) {
          const behind = buffer.subarray(offset + size, offset + rows * sizeOf(shape.slice(1)));
          expect(behind.every((x) => x === 0)).toBe(true);
        }
      const logits = model.logits(batchOf([1, 2, 3]));
      expect(logits.shape).toEqual([3, 53]);
      for (const t of [logits, gradients, model]) t.dispose();
    }
  });
});

describe.each([
  ['of its own head', {}],
  ['of a tied head', { tie_word_embeddings: true }],
  ['with biases', { attention_bias: true, mlp_bias: true }],
])('gradients %s', (_, keys) => {
  it('hold what was added since zero(), bit for bit, and nothing of an earlier step', () => {
    for (const precision of ['fp32', 'bf16'] as const) {
      const model = new LlamaForCausalLM(new Parameters(config(keys), defaultDevice(), precision));
      model.parameters.initialize(1);
      const used = new Gradients(model.parameters);
      const add = (to: Gradients, ...batches: MicroBatch[]) => {
        for (const batch of batches) model.forwardBackward(batch, 0.5, to).dispose();
        return to.flat.floats();
      };
      const [a, b] = [batchOf([3, 50, 7, 9, 2, 8]), batchOf([5, 3, 1])];
      const nothing = batchOf([4, 6], [IGNORE_INDEX]);
      add(used, a);
      for (const batches of [[b], [a, b], [nothing, b, a], [b, b]]) {
        const fresh = new Gradients(model.parameters);
        used.zero();
        expect(add(used, ...batches)).toEqual(add(fresh, ...batches));
        fresh.dispose();
      }
      used.zero();
      expect(add(used, nothing).every((x) => x === 0)).toBe(true);
      for (const t of [used, model]) t.dispose();
    }
  });
});
