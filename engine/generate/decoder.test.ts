import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadModel } from '../checkpoint/load_model.js';
import { addon, defaultDevice } from '../device/addon.js';
import type { LlamaConfig } from '../model/config.js';
import type { LlamaForCausalLM } from '../model/llama.js';
import type { Precision } from '../model/parameters.js';
import { RopeTables } from '../model/rope_tables.js';
import { Decoder } from './decoder.js';

// One thread: two would wait for each other's slices of time where test files run side by side.
addon.setThreads(1);

const fixtures = join(import.meta.dirname, '../../tests/fixtures/llama');

// Only GEMMs sum differently: their number of rows may decide the order. fp32: seen up to 1.3e-5 on logits up to about
// 10, whose last bit is 1e-6. bf16: seen up to 0.06, where a sum falls on the other side of a rounding to 8 bits.
const TOLERANCE: Record<Precision, number> = { fp32: 5e-5, bf16: 0.2 };

const idsOf = (count: number, vocab: number) =>
  Int32Array.from({ length: count }, (_, i) => (i * 37 + 5) % vocab);

/** Logits of every position by the full forward pass [tokens][vocab]. */
function fullLogits(model: LlamaForCausalLM, ids: Int32Array): Float32Array[] {
  const logits = model.logits({
    ids,
    targets: ids.map(() => -100),
    documentOffsets: Int32Array.of(0, ids.length),
  });
  const values = logits.floats();
  logits.dispose();
  const vocab = values.length / ids.length;
  return Array.from(ids, (_, t) => values.subarray(t * vocab, (t + 1) * vocab));
}

function maxDifference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0);
}

describe.each(['fp32', 'bf16'] as const)('cached decoding in %s', (precision) => {
  // Prompt lengths before, at and beyond the cache's first 64 rows; 140 tokens make it double twice.
  it.each([
    ['mha-untied', 1],
    ['gqa-tied', 7],
    ['odd', 64],
    ['rope-llama3', 65],
    ['rope-linear', 130],
    ['rope-yarn', 20],
    ['long', 139],
  ])('of %s, after a prompt of %i, gives the logits of the full forward pass', async (name, prompt) => {
    const before = addon.stats(defaultDevice());
    const { model } = await loadModel(join(fixtures, name), { precision });
    const ids = idsOf(140, model.parameters.config.vocabSize);
    const expected = fullLogits(model, ids);
    const decoder = new Decoder(model);
    let worst = maxDifference(decoder.append(ids.subarray(0, prompt)), expected[prompt - 1]);
    for (let t = prompt; t < ids.length; t++)
      worst = Math.max(worst, maxDifference(decoder.append(ids.subarray(t, t + 1)), expected[t]));
    expect(worst).toBeLessThanOrEqual(TOLERANCE[precision]);

    decoder.dispose();
    model.dispose();
    const after = addon.stats(defaultDevice());
    expect(after.heapBytes).toBe(before.heapBytes);
    expect(after.arenaInUse).toBe(before.arenaInUse);
  });

  it('goes on in pieces of any length', async () => {
    const { model } = await loadModel(join(fixtures, 'gqa-tied'), { precision });
    const ids = idsOf(130, model.parameters.config.vocabSize);
    const expected = fullLogits(model, ids);
    const decoder = new Decoder(model);
    for (let start = 0, length = 1; start < ids.length; start += length, length *= 2) {
      const piece = ids.subarray(start, start + length);
      const logits = decoder.append(piece);
      expect(maxDifference(logits, expected[start + piece.length - 1])).toBeLessThanOrEqual(
        TOLERANCE[precision],
      );
    }
    decoder.dispose();
    model.dispose();
  });
});

describe('dynamic RoPE', () => {
  it('turns new tokens by the frequencies of the length they make; cached keys stay', async () => {
    const { model } = await loadModel(join(fixtures, 'rope-dynamic'));
    const { config } = model.parameters;
    if (config.rope.type !== 'dynamic') throw new Error('the fixture is of another type');
    const { theta, factor } = config.rope;
    const { headDim, maxPositionEmbeddings: most } = config;

    // The same model with static tables, of the θ that transformers has at each length.
    const tables: RopeTables[] = [];
    const angles: RopeTables['angles'] = (lengths, from = 0) => {
      const length = Math.max(from + lengths[0], most);
      const stretched = theta * ((factor * length) / most - (factor - 1)) ** (headDim / (headDim - 2));
      const rope: LlamaConfig['rope'] = { type: 'default', theta: stretched };
      tables.push(new RopeTables({ ...config, rope }, defaultDevice()));
      return tables.at(-1)!.angles(lengths, from);
    };
    const { parameters, trunk, head } = model;
    const reference = { parameters, trunk, head, ropeTables: { angles } } as unknown as LlamaForCausalLM;

    for (const prompt of [most - 2, most + 10]) {
      const ids = idsOf(prompt + 6, config.vocabSize);
      const decoder = new Decoder(model);
      const expected = new Decoder(reference);
      expect(decoder.append(ids.subarray(0, prompt))).toEqual(expected.append(ids.subarray(0, prompt)));
      for (let t = prompt; t < ids.length; t++)
        expect(decoder.append(ids.subarray(t, t + 1))).toEqual(expected.append(ids.subarray(t, t + 1)));
      decoder.dispose();
      expected.dispose();
    }
    for (const table of tables) table.dispose();
    model.dispose();
  });
});
