import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { describeShared, shared } from '../tests/shared.js';
import { loadTokenizer, type Tokenizer } from './index.js';

const llama = shared('tokenizers/llama');
const vectors = shared('tokenizers/vectors/');

const read = (path: string) => readFileSync(path, 'utf8');
const lines = (path: string) => read(path).split('\n').slice(0, -1);
const rows = (path: string) => lines(path).map((line) => JSON.parse(line));

/** The text of all ids pushed one by one. */
function streamed(tokenizer: Tokenizer, ids: number[]): string {
  const stream = tokenizer.stream();
  return ids.map((id) => stream.push(id)).join('') + stream.end();
}

describeShared('the LLaMA tokenizer on published vectors', ['tokenizers/llama', 'tokenizers/vectors'], () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await loadTokenizer(llama);
  });

  it('has the ids of the LLaMA models', () => {
    expect(tokenizer).toMatchObject({ vocabSize: 32_000, bosId: 1, eosId: 2, directory: llama });
  });

  it("llama.cpp's texts and ids", () => {
    const texts = read(`${vectors}ggml-vocab-llama-spm.gguf.inp`)
      .split('\n__ggml_vocab_test__\n')
      .slice(0, -1);
    const expected = lines(`${vectors}ggml-vocab-llama-spm.gguf.out`).map((line) =>
      line.split(' ').filter(Boolean).map(Number),
    );
    expect(texts).toHaveLength(expected.length);
    for (const [i, text] of texts.entries()) {
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(expected[i]);
      expect(tokenizer.decode(expected[i])).toBe(text);
      expect(streamed(tokenizer, expected[i])).toBe(text);
    }
  });

  it('a French text', () => {
    const { text, token_ids, decoded_text } = JSON.parse(read(`${vectors}llama_encoded.json`));
    expect(tokenizer.encode(text, { special: true })).toEqual(token_ids);
    expect(tokenizer.decode(token_ids)).toBe(decoded_text);
    expect(streamed(tokenizer, token_ids)).toBe(decoded_text);
  });

  it('texts in many scripts', () => {
    const { inputs } = JSON.parse(read(`${vectors}tinyllama_base_inputs.json`));
    const { entries } = JSON.parse(read(`${vectors}tinyllama_base.json`));
    expect(inputs.map(({ id }: { id: string }) => id).sort()).toEqual(Object.keys(entries).sort());
    for (const { id, text } of inputs) {
      const { input_ids, decoded_with_special, decoded_skip_special } = entries[id];
      expect(tokenizer.encode(text, { special: true }), id).toEqual(input_ids);
      expect(tokenizer.decode(input_ids), id).toBe(decoded_with_special);
      expect(tokenizer.decode(input_ids, { skipSpecial: true }), id).toBe(decoded_skip_special);
      expect(streamed(tokenizer, input_ids), id).toBe(decoded_with_special);
    }
  });
});

describe.each(['llama3.1', 'smollm2'])('the byte-level tokenizer of %s', (name) => {
  describeShared('on the vectors of tokenizers', [`tokenizers/${name}`, 'tokenizers/vectors'], () => {
    it('gives their ids and texts', async () => {
      const tokenizer = await loadTokenizer(shared(`tokenizers/${name}`));
      const list = JSON.parse(read(`${vectors}bytelevel_${name}.json`));
      expect(list.length).toBeGreaterThan(400);
      for (const { text, ids, decoded } of list) {
        expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids);
        expect(tokenizer.decode(ids)).toBe(decoded);
        expect(streamed(tokenizer, ids)).toBe(decoded);
      }
    });
  });
});

describeShared(
  'the special tokens of byte-level tokenizers',
  ['tokenizers/llama3.1', 'tokenizers/smollm2'],
  () => {
    it('are those of their files', async () => {
      const llama3 = await loadTokenizer(shared('tokenizers/llama3.1'));
      expect(llama3).toMatchObject({ vocabSize: 128_256, bosId: 128_000, eosId: 128_009, prefix: [128_000] });
      expect(llama3.encode('a<|eot_id|>', { special: true })).toEqual([128_000, 64, 128_009]);
      const smollm2 = await loadTokenizer(shared('tokenizers/smollm2'));
      expect(smollm2).toMatchObject({ vocabSize: 49_152, bosId: 1, eosId: 2, prefix: [] });
      expect([...smollm2.files.keys()]).toContain('chat_template.jinja');
    });
  },
);

describeShared("the LLaMA tokenizer on Stanford's rows", ['tokenizers/llama', 'goldens/alpaca'], () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await loadTokenizer(llama);
  });

  it.each([
    ['rows_512', 360],
    ['rows_64', 36],
    ['edge_512', 10],
  ])('%s.jsonl', (name, count) => {
    const golden = rows(shared(`goldens/alpaca/${name}.jsonl`));
    expect(golden).toHaveLength(count);
    for (const { file, row, model_max_length, prompt, target, ids, prompt_len, n_labels } of golden) {
      const encode = (text: string) => [1, ...tokenizer.encode(text)].slice(0, model_max_length);
      const whole = encode(prompt + target);
      const promptLength = encode(prompt).length;
      expect(whole, `${file} ${row}`).toEqual(ids);
      expect(promptLength, `${file} ${row}`).toBe(prompt_len);
      expect(whole.slice(promptLength), `${file} ${row}`).toHaveLength(n_labels);
    }
  });

  it('gives back texts that hold no special token', () => {
    for (const { prompt, target } of rows(shared('goldens/alpaca/rows_512.jsonl'))) {
      const text = prompt + target.replace('</s>', '');
      const ids = tokenizer.encode(text);
      expect(tokenizer.decode(ids)).toBe(text);
      expect(streamed(tokenizer, ids)).toBe(text);
    }
  });
});

describeShared('the stories260K tokenizer', ['models/stories260K-hf', 'goldens/stories260K'], () => {
  it('gives the ids of the stories and of the prompts, and the text of what was generated', async () => {
    const tokenizer = await loadTokenizer(shared('models/stories260K-hf'));
    expect(tokenizer).toMatchObject({ vocabSize: 512, bosId: 1, eosId: 2 });
    for (const { text, ids } of rows(shared('goldens/stories260K/losses.jsonl')))
      expect(tokenizer.encode(text, { special: true })).toEqual(ids);
    for (const { prompt, prompt_ids, ids, text } of rows(shared('goldens/stories260K/greedy.jsonl'))) {
      expect(tokenizer.encode(prompt, { special: true })).toEqual(prompt_ids);
      const all = [...prompt_ids.slice(1), ...ids];
      expect(tokenizer.decode(all)).toBe(text);
      expect(streamed(tokenizer, all)).toBe(text);
    }
  });
});
