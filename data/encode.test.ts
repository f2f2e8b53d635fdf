import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { UserError } from '../errors.js';
import { describeShared, shared } from '../tests/shared.js';
import { loadTokenizer, type Tokenizer } from '../tokenizer/index.js';
import { countLabels, encodeAlpacaRow, encodeRows, encodeTokenRow } from './encode.js';
import { formatPrompt } from './prompt.js';

/** One id a character, but "Response:x" shrinks to one id: the prompt's ids are then no prefix of the row's. */
const tokenizer = {
  directory: 'fake',
  prefix: [1],
  eosId: 2,
  encode: (text: string) =>
    Array.from(text.replace('Response:x', 'X'), (character) => character.codePointAt(0)!),
} as unknown as Tokenizer;
const row = { instruction: 'I', input: '', output: 'yes' };
const prompt = formatPrompt(row).length;

describe('encodeAlpacaRow', () => {
  it('puts BOS before the prompt, EOS after the output, and labels from the end of the prompt on', () => {
    const { ids, labels, truncated } = encodeAlpacaRow(row, tokenizer, 512);
    expect([...ids]).toEqual([1, ...tokenizer.encode(formatPrompt(row)), ...tokenizer.encode('yes'), 2]);
    expect(labels.findIndex((label) => label !== -100)).toBe(1 + prompt);
    expect(labels.slice(1 + prompt)).toEqual(ids.slice(1 + prompt));
    expect(truncated).toBe(0);
  });

  it('counts the ids of the prompt alone, not of the prompt as the row spells it', () => {
    const { labels } = encodeAlpacaRow({ ...row, output: 'xyz!'.repeat(4) }, tokenizer, 512);
    expect(labels.findIndex((label) => label !== -100)).toBe(1 + prompt);
    expect(labels.length).toBe(1 + prompt + 16 - 'Response:'.length + 1);
  });

  it('cuts on the right, EOS first, down to rows without a label', () => {
    const whole = encodeAlpacaRow(row, tokenizer, 512).ids;
    const cut = encodeAlpacaRow(row, tokenizer, prompt + 3);
    expect(cut.ids).toEqual(whole.slice(0, prompt + 3));
    expect(cut.truncated).toBe(2);
    expect(countLabels(cut.labels)).toBe(2);
    const short = encodeAlpacaRow(row, tokenizer, 10);
    expect(short.ids).toEqual(whole.slice(0, 10));
    expect([...short.labels]).toEqual(Array(10).fill(-100));
    expect(encodeAlpacaRow(row, tokenizer, Number.POSITIVE_INFINITY).ids).toEqual(whole);
  });

  it('adds no BOS where the tokenizer has none, and needs an EOS', () => {
    const without = encodeAlpacaRow(row, { ...tokenizer, prefix: [] }, 512);
    expect(without.ids).toEqual(encodeAlpacaRow(row, tokenizer, 512).ids.slice(1));
    expect(() => encodeAlpacaRow(row, { ...tokenizer, eosId: undefined }, 512)).toThrow(
      new UserError(
        'The tokenizer in fake names no eos_token, and a model trained without one never stops. ' +
          'Set eos_token in its tokenizer_config.json.',
      ),
    );
  });
});

it('encodeTokenRow cuts ids and labels alike', () => {
  const tokens = { ids: Int32Array.of(1, 5, 6), labels: Int32Array.of(-100, 5, 6) };
  expect(encodeTokenRow(tokens, 2)).toEqual({
    ids: Int32Array.of(1, 5),
    labels: Int32Array.of(-100, 5),
    truncated: 1,
  });
  expect(encodeTokenRow(tokens, 3)).toEqual({ ...tokens, truncated: 0 });
});

it('encodeRows lays rows end to end and notes empty outputs by their row number', () => {
  const rows = [row, { ...row, output: ' \n' }];
  const unreadKeys = new Map([['system', 1]]);
  const encoded = encodeRows({ form: 'alpaca', rows, firstRow: 7, unreadKeys }, tokenizer, prompt + 4);
  const [first, second] = rows.map((row) => encodeAlpacaRow(row, tokenizer, prompt + 4));
  expect(encoded).toEqual({
    ids: Int32Array.of(...first.ids, ...second.ids),
    labels: Int32Array.of(...first.labels, ...second.labels),
    lengths: Int32Array.of(prompt + 4, prompt + 4),
    truncated: Int32Array.of(1, 0),
    emptyOutputs: [8],
    unreadKeys,
  });
});

it('countLabels leaves out the first position, which nothing predicts', () => {
  expect(countLabels(Int32Array.of(5, 5, -100, 6))).toBe(2);
  expect(countLabels(Int32Array.of(5))).toBe(0);
  expect(countLabels(new Int32Array(0))).toBe(0);
});

const goldens = shared('goldens/alpaca');
describeShared(
  'Alpaca rows with the LLaMA tokenizer against the reference ids',
  ['goldens/alpaca', 'tokenizers/llama', 'data'],
  () => {
    it.each([
      ['rows_512.jsonl', 360],
      ['rows_64.jsonl', 36],
      ['edge_512.jsonl', 10],
    ])('%s: %d rows', async (name, rows) => {
      const llama = await loadTokenizer(shared('tokenizers/llama'));
      const lines = readFileSync(`${goldens}/${name}`, 'utf8').trim().split('\n');
      expect(lines).toHaveLength(rows);
      const files = new Map<string, { instruction: string; input?: string; output: string }[]>();
      for (const line of lines) {
        const golden = JSON.parse(line);
        const folder = golden.file === 'edge_rows.json' ? goldens : shared('data');
        if (!files.has(golden.file))
          files.set(golden.file, JSON.parse(readFileSync(`${folder}/${golden.file}`, 'utf8')));
        const { instruction, input = '', output } = files.get(golden.file)![golden.row];
        const encoded = encodeAlpacaRow({ instruction, input, output }, llama, golden.model_max_length);
        expect([...encoded.ids]).toEqual(golden.ids);
        expect([...encoded.labels]).toEqual(
          golden.ids.map((id: number, i: number) => (i < golden.prompt_len ? -100 : id)),
        );
        expect(encoded.labels.filter((label) => label !== -100)).toHaveLength(golden.n_labels);
      }
    });
  },
);
