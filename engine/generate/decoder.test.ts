import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { UserError } from '../../errors.js';
import { Random } from '../../tests/op_cases.js';
import { loadModel } from '../checkpoint/load_model.js';
import { addon, defaultDevice } from '../device/addon.js';
import { Repeat } from '../device/repeat.js';
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

/** The model, whose ops are called whatever repeats. */
function calledEachTime({ parameters, trunk, head, ropeTables }: LlamaForCausalLM): LlamaForCausalLM {
  const repeat = { do: (_key: string, _tensors: unknown, body: () => void) => body() };
  return { parameters, trunk, head, ropeTables, repeat } as unknown as LlamaForCausalLM;
}

/** A decoder with one text. */
function oneText(model: LlamaForCausalLM) {
  const decoder = new Decoder(model);
  const text = decoder.add();
  return {
    append: (ids: Int32Array) => decoder.append([{ text, ids }])[0],
    dispose: () => decoder.dispose(),
  };
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
    const decoder = oneText(model);
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
    const decoder = oneText(model);
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

describe.each(['fp32', 'bf16'] as const)('decoding in %s', (precision) => {
  it('is work that repeats, and gives the same bits when its ops are called each time', async () => {
    const { model } = await loadModel(join(fixtures, 'gqa-tied'), { precision });
    const doing = vi.spyOn(model.repeat, 'do');
    const ids = idsOf(80, model.parameters.config.vocabSize);
    const logits = [calledEachTime(model), model].map((of) => {
      // Two texts, of which one starts with a longer prompt.
      const decoder = new Decoder(of);
      const texts = [decoder.add(), decoder.add()];
      const all = decoder.append(texts.map((text) => ({ text, ids: ids.subarray(0, 20 + 15 * text) })));
      for (let t = 0; t < 50; t++)
        all.push(...decoder.append(texts.map((text) => ({ text, ids: ids.subarray(t, t + 1) }))));
      decoder.dispose();
      return all;
    });
    expect(logits[1]).toEqual(logits[0]);
    // The prompts; two steps in the first place of the cache; and three each time that it moves, for a text of more than 64
    // tokens, the first of them with both places held.
    const calls = doing.mock.results.filter(({ value }) => value).length;
    expect(calls).toBe(defaultDevice() === 'cuda' ? 1 + 2 + 2 * 3 : 51);
    model.dispose();
  });
});

describe.each(['fp32', 'bf16'] as const)('many texts in %s', (precision) => {
  it.each(['mha-untied', 'gqa-tied', 'rope-dynamic'])(
    'of %s, each as alone, whatever the others do',
    async (name) => {
      const before = addon.stats(defaultDevice());
      const { model } = await loadModel(join(fixtures, name), { precision });
      const { vocabSize } = model.parameters.config;
      const decoder = new Decoder(model);
      const random = new Random(7);
      const texts: { text: number; ids: Int32Array; known: number; alone: ReturnType<typeof oneText> }[] = [];
      let worst = 0;
      for (let round = 0; round < 60; round++) {
        // Texts come with prompts of 1 to 90 ids, go on by one, now and then by some; some rest; some end.
        while (texts.length < 5) {
          const ids = Int32Array.from({ length: 300 }, () => random.below(vocabSize));
          texts.push({ text: decoder.add(), ids, known: 0, alone: oneText(model) });
        }
        const steps = texts
          .filter(() => random.uniform() < 0.8)
          .map((text) => ({
            ...text,
            text,
            count:
              text.known === 0 ? 1 + random.below(90) : random.uniform() < 0.9 ? 1 : 1 + random.below(20),
          }));
        const logits = decoder.append(
          steps.map(({ text, ids, known, count }) => ({
            text: text.text,
            ids: ids.subarray(known, known + count),
          })),
        );
        steps.forEach(({ text, ids, known, count, alone }, i) => {
          worst = Math.max(worst, maxDifference(logits[i], alone.append(ids.subarray(known, known + count))));
          text.known += count;
        });
        for (const ended of texts.filter(({ known }) => known > 200 || random.uniform() < 0.05)) {
          decoder.remove(ended.text);
          ended.alone.dispose();
          texts.splice(texts.indexOf(ended), 1);
        }
      }
      expect(worst).toBeLessThanOrEqual(TOLERANCE[precision]);

      decoder.dispose();
      for (const { alone } of texts) alone.dispose();
      model.dispose();
      const { heapBytes, arenaInUse } = before;
      expect(addon.stats(defaultDevice())).toMatchObject({ heapBytes, arenaInUse });
    },
  );
});

describe('a step that fails', () => {
  afterEach(() => vi.restoreAllMocks());

  it('leaves the decoder as it was, wherever it fails', async () => {
    const { model } = await loadModel(join(fixtures, 'gqa-tied'));
    const ids = idsOf(300, model.parameters.config.vocabSize);
    const called = calledEachTime(model);
    const decoder = new Decoder(called);
    const undisturbed = new Decoder(called);
    const append = (d: Decoder, pieces: [text: number, from: number, to: number][]) =>
      d.append(pieces.map(([text, from, to]) => ({ text, ids: ids.subarray(from, to) })));
    const start: [number, number, number][] = [
      [0, 0, 64],
      [1, 10, 40],
      [2, 5, 6],
    ];
    // The first text has to move, the fourth is new and long: the matrices must grow.
    const next: typeof start = [
      [0, 64, 65],
      [1, 40, 41],
      [3, 0, 150],
    ];
    for (const d of [decoder, undisturbed]) {
      for (let text = 0; text < 4; text++) expect(d.add()).toBe(text);
      append(d, start);
    }

    // The model's tables of angles grow as well, and are the model's whatever becomes of the step.
    model.ropeTables.dispose();
    const { heapBytes, arenaInUse } = addon.stats(defaultDevice());
    const run = () => append(decoder, next);
    const expectFailure = () => {
      expect(run).toThrow('it fails here');
      model.ropeTables.dispose();
      expect(addon.stats(defaultDevice())).toMatchObject({ heapBytes, arenaInUse });
      vi.restoreAllMocks();
    };
    // What a step that succeeds calls, and how often: by a twin that then is thrown away.
    type Methods = Record<string, (...args: unknown[]) => unknown>;
    const [ofAddon, ofOps] = [addon, addon.ops] as unknown[] as Methods[];
    const methods = [
      ...['alloc', 'view', 'copy'].map((name) => ({ of: ofAddon, name })),
      ...Object.keys(ofOps).map((name) => ({ of: ofOps, name })),
    ];
    const twin = new Decoder(called);
    for (let text = 0; text < 4; text++) twin.add();
    append(twin, start);
    const spies = methods.map(({ of, name }) => vi.spyOn(of, name));
    append(twin, next);
    const counts = spies.map((spy) => spy.mock.calls.length);
    vi.restoreAllMocks();
    twin.dispose();
    expect(methods.filter((_, i) => counts[i] > 0).map(({ name }) => name)).toEqual(
      expect.arrayContaining(['alloc', 'view', 'copy', 'attention_forward', 'scatter_rows', 'gemm', 'cast']),
    );

    for (const [i, { of, name }] of methods.entries())
      for (let call = 1; call <= counts[i]; call++) {
        const original = of[name];
        let calls = 0;
        vi.spyOn(of, name).mockImplementation((...args) => {
          if (++calls === call) throw new Error('it fails here');
          return original(...args);
        });
        expectFailure();
      }

    expect(run()).toEqual(append(undisturbed, next));
    const all: typeof start = [
      [0, 65, 66],
      [1, 41, 42],
      [2, 6, 7],
      [3, 150, 151],
    ];
    expect(append(decoder, all)).toEqual(append(undisturbed, all));
    decoder.dispose();
    undisturbed.dispose();
    model.dispose();
  });

  it('is refused before anything is done when texts or ids are not such', async () => {
    const { model } = await loadModel(join(fixtures, 'gqa-tied'));
    const { vocabSize } = model.parameters.config;
    const decoder = new Decoder(model);
    const [text, removed] = [decoder.add(), decoder.add()];
    decoder.remove(removed);
    const ids = Int32Array.of(3, 1);
    expect(() => decoder.append([{ text: removed, ids }])).toThrow(`there is no text ${removed}`);
    expect(() =>
      decoder.append([
        { text, ids },
        { text, ids },
      ]),
    ).toThrow('text 0 is given twice');
    expect(() => decoder.append([{ text, ids: new Int32Array(0) }])).toThrow(
      new UserError('text 0 is empty: a model needs at least one id to go on from'),
    );
    for (const id of [-1, vocabSize])
      expect(() => decoder.append([{ text, ids: Int32Array.of(0, id) }])).toThrow(
        new UserError(
          `text 0's id ${id} (number 2 of 2) is outside the model's vocabulary of ${vocabSize} ` +
            `(ids 0 to ${vocabSize - 1})`,
        ),
      );
    expect(decoder.append([])).toEqual([]);
    decoder.dispose();
    expect(() => decoder.append([{ text, ids }])).toThrow('there is no text 0');
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
    const rowsOf: RopeTables['rowsOf'] = (lengths, from = [0]) => {
      const length = Math.max(from[0] + lengths[0], most);
      const stretched = theta * ((factor * length) / most - (factor - 1)) ** (headDim / (headDim - 2));
      const rope: LlamaConfig['rope'] = { type: 'default', theta: stretched };
      tables.push(new RopeTables({ ...config, rope }, defaultDevice()));
      return tables.at(-1)!.rowsOf(lengths, from);
    };
    const { parameters, trunk, head } = model;
    const reference = {
      parameters,
      trunk,
      head,
      ropeTables: { rowsOf },
      repeat: new Repeat(),
    } as unknown as LlamaForCausalLM;

    for (const prompt of [most - 2, most + 10]) {
      const ids = idsOf(prompt + 6, config.vocabSize);
      const decoder = oneText(model);
      const expected = oneText(reference);
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
