import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { loadModel } from '../engine/checkpoint/load_model.js';
import { generate } from '../engine/generate/generate.js';
import { writeTinyModel } from '../tests/tiny_model.js';
import { RunDirectory } from '../tests/tiny_run.js';
import { tinyTokenizer, writeTokenizer } from '../tests/tiny_tokenizer.js';
import { loadTokenizer } from '../tokenizer/index.js';
import { finetune } from './finetune.js';
import { encodePrompt, eosTokenIds } from './generate.js';
import type { Settings } from './settings.js';

let directory: RunDirectory;
let settings: Settings;
beforeEach(() => {
  directory = new RunDirectory();
  vi.stubEnv('XDG_CACHE_HOME', directory.at('.cache'));
  directory.writeRows('rows.jsonl', [{ instruction: 'a', output: 'low' }]);
  settings = {
    data_path: directory.at('rows.jsonl'),
    output_dir: directory.at('out'),
    max_steps: 1,
    save_strategy: 'no',
    threads: 1,
  };
});
afterEach(() => {
  directory.remove();
  vi.unstubAllEnvs();
});

const BASE = 'tiny model';

/** A tokenizer whose BOS and EOS have ids of its own, behind everything else: 309 and 310. */
function chatTokenizer() {
  const json = tinyTokenizer();
  const first = Object.keys(json.model.vocab).length;
  for (const [i, content] of ['<|im_start|>', '<|im_end|>'].entries()) {
    json.model.vocab[content] = first + i;
    json.added_tokens.push({ ...json.added_tokens[0], id: first + i, content });
  }
  return { json, config: { bos_token: '<|im_start|>', eos_token: '<|im_end|>' }, bos: first, eos: first + 1 };
}

const MODEL = {
  vocab_size: 320,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  max_position_embeddings: 512,
};

/** Trains, and returns what was said of special ids and what was saved of them. */
async function run(own: Partial<Settings>) {
  const messages: string[] = [];
  await finetune({ ...settings, ...own } as Settings, { onMessage: (text) => messages.push(text) });
  const json = (name: string) => JSON.parse(directory.text('out', name));
  const { bos_token_id, eos_token_id } = json('config.json');
  return {
    said: messages
      .filter((text) => text.includes('_token_id'))
      .map((text) => text.replaceAll(directory.path, BASE)),
    config: { bos_token_id, eos_token_id },
    generation: directory.list('out').includes('generation_config.json')
      ? (json('generation_config.json') as object)
      : undefined,
  };
}

describe('BOS and EOS of a run', () => {
  it("are the tokenizer's in a new model, which stops by itself", async () => {
    const { json, config, bos, eos } = chatTokenizer();
    const tokenizerDirectory = writeTokenizer(json, config);
    writeFileSync(join(tokenizerDirectory, 'generation_config.json'), '{"eos_token_id": 2}');
    const trained = await run({
      model_config: MODEL,
      tokenizer_name_or_path: tokenizerDirectory,
      max_steps: 60,
      learning_rate: 1e-2,
    });
    // A default that nobody wrote differs from nothing, and another model's generation_config.json is no companion.
    expect(trained).toEqual({
      said: [],
      config: { bos_token_id: bos, eos_token_id: eos },
      generation: undefined,
    });
    const { model } = await loadModel(directory.at('out'));
    const tokenizer = await loadTokenizer(directory.at('out'));
    const { ids } = await generate(model, encodePrompt(tokenizer, { instruction: 'a' }), {
      maxNewTokens: 20,
      // What the model's own files say.
      eosTokenIds: eosTokenIds(directory.at('out'), model.parameters.config, undefined),
    });
    model.dispose();
    expect(ids.at(-1)).toBe(eos);
    expect(tokenizer.decode(ids, { skipSpecial: true })).toBe('low');
  });

  it("are the tokenizer's, and told, where model_config says others", async () => {
    const { json, config, bos, eos } = chatTokenizer();
    const own = { tokenizer_name_or_path: writeTokenizer(json, config) };
    expect(await run({ ...own, model_config: { ...MODEL, bos_token_id: 1, eos_token_id: [2, 3] } })).toEqual({
      said: [
        `bos_token_id: the tokenizer says ${bos}, model_config says 1; taken is ${bos}, and that is saved`,
        `eos_token_id: the tokenizer says ${eos}, model_config says 2, 3; rows end in ${eos}, and that is saved`,
      ],
      config: { bos_token_id: bos, eos_token_id: eos },
      generation: undefined,
    });
  });

  it('stay where all agree, a list of them too', async () => {
    const base = await writeTinyModel({ eos_token_id: [7, 2], max_position_embeddings: 512 });
    const text = '{"eos_token_id":   2, "temperature": 2.0}';
    writeFileSync(join(base, 'generation_config.json'), text);
    expect(await run({ model_name_or_path: base })).toEqual({
      said: [],
      config: { bos_token_id: 1, eos_token_id: [7, 2] },
      generation: { eos_token_id: 2, temperature: 2 },
    });
  });

  it("go first into the base model's generation_config.json, whose other ids still end a text", async () => {
    const base = await writeTinyModel({ eos_token_id: 5, bos_token_id: null, max_position_embeddings: 512 });
    const text =
      '{\n  "bos_token_id": 4,\n  "eos_token_id": [\n    7,\n    8\n  ],\n  "temperature": 2.0\n}\n';
    writeFileSync(join(base, 'generation_config.json'), text);
    expect(await run({ model_name_or_path: base })).toEqual({
      said: [
        'bos_token_id: the tokenizer says 1, config.json says none, generation_config.json says 4; taken is 1, and that is saved',
        'eos_token_id: the tokenizer says 2, config.json says 5, generation_config.json says 7, 8; rows end in 2, and that is saved',
      ],
      config: { bos_token_id: 1, eos_token_id: 2 },
      generation: expect.anything(),
    });
    expect(directory.text('out', 'generation_config.json')).toBe(
      '{\n  "bos_token_id": 1,\n  "eos_token_id": [2,7,8],\n  "temperature": 2.0\n}\n',
    );
  });

  it('are added to a generation_config.json that has none: transformers would not stop', async () => {
    const base = await writeTinyModel({ max_position_embeddings: 512 });
    writeFileSync(join(base, 'generation_config.json'), '{}');
    const { said, generation } = await run({ model_name_or_path: base });
    expect(said).toEqual([]);
    expect(generation).toEqual({ eos_token_id: [2] });
  });

  it('are looked up in rows of ids among those that anything names', async () => {
    const base = await writeTinyModel({ eos_token_id: 5 });
    writeFileSync(join(base, 'generation_config.json'), '{"eos_token_id": 7}');
    directory.writeRows('rows.jsonl', [
      { ids: [9, 8, 3, 5], prompt_len: 1 },
      { ids: [9, 8, 3, 7], prompt_len: 4 },
    ]);
    expect(await run({ model_name_or_path: base })).toEqual({
      said: [
        'eos_token_id: the tokenizer says 2, config.json says 5, generation_config.json says 7; rows end in 5, and that is saved',
      ],
      config: { bos_token_id: 1, eos_token_id: 5 },
      generation: { eos_token_id: [5, 7] },
    });
  });

  it('are unknown where rows of ids have none, and where their tokenizer cannot be read', async () => {
    const base = await writeTinyModel();
    writeFileSync(join(base, 'tokenizer.json'), '{');
    directory.writeRows('rows.jsonl', [{ ids: [9, 8, 3, 5], prompt_len: 1 }]);
    const messages: string[] = [];
    await finetune({ ...settings, model_name_or_path: base }, { onMessage: (text) => messages.push(text) });
    expect(messages.filter((text) => text.includes('tokenizer.json'))).toEqual([
      expect.stringMatching(
        /tokenizer\.json: not valid JSON: .* \(rows of token ids do not need it; its BOS and EOS are not known\)$/,
      ),
    ]);
    expect(messages.filter((text) => text.includes('_token_id'))).toEqual([
      `no row of ${settings.data_path} ends in 2 (eos_token_id): where to stop is not learned from them`,
    ]);
    expect(readFileSync(directory.at('out/config.json'), 'utf8')).toMatch(/"eos_token_id": 2,/);
  });
});
