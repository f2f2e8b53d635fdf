import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../../errors.js';
import { expectEqualChoices } from '../../tests/equal_choices.js';
import { Random } from '../../tests/op_cases.js';
import { loadModel } from '../checkpoint/load_model.js';
import { addon, defaultDevice } from '../device/addon.js';
import type { LlamaForCausalLM } from '../model/llama.js';
import { type GenerateManyOptions, generate, generateMany } from './generate.js';

let model: LlamaForCausalLM;
beforeAll(async () => {
  // Two threads would wait for each other's slices of time where test files run side by side.
  addon.setThreads(1);
  ({ model } = await loadModel(join(import.meta.dirname, '../../tests/fixtures/checkpoint/sharded')));
});
afterAll(() => model.dispose());

const PROMPT = [1, 40, 41, 42];

/** Greedy decoding by the full forward pass, one pass a token. */
function greedyByFullForward(count: number): number[] {
  const ids = [...PROMPT];
  for (let i = 0; i < count; i++) {
    const logits = model.logits({
      ids: Int32Array.from(ids),
      targets: Int32Array.from(ids, () => -100),
      documentOffsets: Int32Array.of(0, ids.length),
    });
    const { vocabSize } = model.parameters.config;
    const last = logits.floats().subarray((ids.length - 1) * vocabSize);
    logits.dispose();
    ids.push(last.indexOf(Math.max(...last)));
  }
  return ids.slice(PROMPT.length);
}

describe('generate', () => {
  it('chooses greedily what the full forward pass would, and tells each id at once', async () => {
    const told: number[] = [];
    const { ids } = await generate(model, PROMPT, { maxNewTokens: 20, onToken: (id) => told.push(id) });
    expect(ids).toEqual(greedyByFullForward(20));
    expect(told).toEqual(ids);
  });

  it('stops behind the first EOS, which is the last id', async () => {
    const all = (await generate(model, PROMPT, { maxNewTokens: 20 })).ids;
    const eos = all[7];
    const end = all.indexOf(eos) + 1;
    expect((await generate(model, PROMPT, { maxNewTokens: 20, eosTokenIds: [9999, eos] })).ids).toEqual(
      all.slice(0, end),
    );
  });

  it('draws by the seed', async () => {
    const sample = (seed: number) =>
      generate(model, PROMPT, { maxNewTokens: 12, sampling: { temperature: 1.5, seed } });
    expect(await sample(1)).toEqual(await sample(1));
    expect(await sample(1)).not.toEqual(await sample(2));
  });

  it('penalises the ids of the prompt and its own', async () => {
    const { ids } = await generate(model, PROMPT, {
      maxNewTokens: 40,
      sampling: { repetitionPenalty: 1000 },
    });
    expect(new Set([...PROMPT, ...ids]).size).toBe(PROMPT.length + 40);
  });

  it('keeps no memory, whatever happens', async () => {
    const { heapBytes, arenaInUse } = addon.stats(defaultDevice());
    await generate(model, PROMPT, { maxNewTokens: 3 });
    const stop = () => {
      throw new Error('stop');
    };
    await expect(generate(model, PROMPT, { maxNewTokens: 3, onToken: stop })).rejects.toThrow('stop');
    expect(addon.stats(defaultDevice())).toMatchObject({ heapBytes, arenaInUse });
  });

  it.each([
    [[], 'the prompt is empty: a model needs at least one id to go on from'],
    [[1, 260], "the prompt's id 260 (number 2 of 2) is outside the model's vocabulary of 260 (ids 0 to 259)"],
    [[1.5], "the prompt's id 1.5 (number 1 of 1) is outside the model's vocabulary of 260 (ids 0 to 259)"],
  ])('refuses the prompt %j', async (ids, message) => {
    await expect(generate(model, ids, { maxNewTokens: 1 })).rejects.toThrow(new UserError(message));
  });
});

describe('generateMany', () => {
  const random = new Random(3);
  const prompts = Array.from({ length: 64 }, () =>
    Array.from({ length: 1 + random.below(60) }, () => random.below(260)),
  );
  const oneByOne = async (options: GenerateManyOptions) => {
    const all: number[][] = [];
    for (const prompt of prompts) all.push((await generate(model, prompt, options)).ids);
    return all;
  };

  it.each([64, 16, 5])(
    'gives 64 prompts of mixed lengths the ids of one by one, %i at once',
    async (textsAtOnce) => {
      // Ids that many continuations reach: texts end at any time, and others take their place.
      const options = { maxNewTokens: 40, eosTokenIds: [7, 70, 170, 207] };
      const expected = await oneByOne(options);
      expect(new Set(expected.map((ids) => ids.length)).size).toBeGreaterThan(10);
      const told: number[][] = prompts.map(() => []);
      const actual = await generateMany(model, prompts, {
        ...options,
        textsAtOnce,
        onToken: (id, prompt) => told[prompt].push(id),
      });
      let compared = 0;
      for (const [i, { ids }] of actual.entries())
        compared += expectEqualChoices(model, prompts[i], ids, expected[i]);
      // Ties are rare: nearly all was compared.
      expect(compared).toBeGreaterThan(0.9 * expected.flat().length);
      expect(told).toEqual(actual.map(({ ids }) => ids));
    },
  );

  it('draws for each text by the seed and its number; the first as generate draws', async () => {
    const options = { maxNewTokens: 12, sampling: { temperature: 1.5, seed: 5 } };
    const same = [PROMPT, PROMPT, PROMPT];
    const drawn = await generateMany(model, same, options);
    expect(drawn[0]).toEqual(await generate(model, PROMPT, options));
    expect(new Set(drawn.map(({ ids }) => ids.join())).size).toBe(3);
    expect(await generateMany(model, same, { ...options, textsAtOnce: 2 })).toEqual(drawn);
    const { sampling, ...greedy } = options;
    expect(await generateMany(model, same, { ...greedy, sampling: { ...sampling, seed: 6 } })).not.toEqual(
      drawn,
    );
  });

  it('keeps no memory, whatever happens', async () => {
    const { heapBytes, arenaInUse } = addon.stats(defaultDevice());
    await generateMany(model, prompts, { maxNewTokens: 3 });
    const stop = (_: number, prompt: number) => {
      if (prompt === 30) throw new Error('stop');
    };
    await expect(generateMany(model, prompts, { maxNewTokens: 3, onToken: stop })).rejects.toThrow('stop');
    expect(addon.stats(defaultDevice())).toMatchObject({ heapBytes, arenaInUse });
  });

  it('adds nothing when nothing is to be added, and to nothing', async () => {
    expect(await generateMany(model, [PROMPT, PROMPT], { maxNewTokens: 0 })).toEqual([
      { ids: [] },
      { ids: [] },
    ]);
    expect(await generateMany(model, [], { maxNewTokens: 5 })).toEqual([]);
  });

  it.each([
    [[PROMPT, []], {}, 'prompt 1 is empty: a model needs at least one id to go on from'],
    [[PROMPT, [1, 999]], {}, "prompt 1's id 999 (number 2 of 2) is outside the model's vocabulary of 260"],
    [[PROMPT], { textsAtOnce: 0 }, 'textsAtOnce is 0, it must be 1 or more'],
  ])('refuses the prompts %j with %j', async (given, options, message) => {
    const refused = expect(generateMany(model, given, { maxNewTokens: 1, ...options })).rejects;
    await refused.toThrow(UserError);
    await expect(generateMany(model, given, { maxNewTokens: 1, ...options })).rejects.toThrow(message);
  });
});
