import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { formatPrompt } from '../data/prompt.js';
import { loadTokenizer, type Tokenizer } from '../tokenizer/index.js';
import { quickstartRows } from './rows.js';
import { QUICKSTART_VOCAB_SIZE } from './tokenizer.js';
import { HELD_OUT_WORDS, OPPOSITES, TRAINING_WORDS } from './words.js';
import { writeQuickstartData } from './write.js';

const dir = mkdtempSync(join(tmpdir(), 'tstrain-quickstart-'));
afterAll(() => rmSync(dir, { recursive: true }));

describe("the quickstart's tokenizer", () => {
  const { train, heldOut } = quickstartRows();
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    writeQuickstartData(dir);
    tokenizer = await loadTokenizer(join(dir, 'tokenizer'));
  });

  it('has the vocabulary that configs/quickstart.yaml names', () => {
    expect(tokenizer.vocabSize).toBe(QUICKSTART_VOCAB_SIZE);
    const config = new URL('../configs/quickstart.yaml', import.meta.url);
    expect(parse(readFileSync(config, 'utf8')).model_config.vocab_size).toBe(QUICKSTART_VOCAB_SIZE);
    expect([tokenizer.bosId, tokenizer.eosId]).toEqual([1, 2]);
  });

  it('makes one token of each sentence of the prompt, each word of a phrasing and each other character', () => {
    const length = (row: { instruction: string; input?: string; output: string }) =>
      tokenizer.encode(`${formatPrompt(row)}${row.output}</s>`).length;
    // Prompt, "Copy ", ▁ f l u t e ., prompt, ▁ f l u t e, EOS.
    expect(length({ instruction: 'Copy flute.', output: 'flute' })).toBe(1 + 1 + 7 + 1 + 6 + 1);
    // Prompt, "Copy ", "the ", "input.", prompt, ▁ o a k, prompt, ▁ o a k, EOS.
    expect(length({ instruction: 'Copy the input.', input: 'oak', output: 'oak' })).toBe(
      1 + 3 + 1 + 4 + 1 + 4 + 1,
    );
  });

  it('spells every word that a skill is about', () => {
    for (const word of [...TRAINING_WORDS, ...HELD_OUT_WORDS, ...OPPOSITES.flat()]) {
      expect(tokenizer.encode(word), word).toHaveLength(1 + word.length);
    }
  });

  it('knows every word of the phrasings that training has not', () => {
    const seen = new Set(train.flatMap((row) => tokenizer.encode(formatPrompt(row))));
    const unseen = heldOut.filter((row) => tokenizer.encode(formatPrompt(row)).some((id) => !seen.has(id)));
    expect(unseen).toEqual([]);
  });

  it('keeps the prompt a prefix of the row, and gives back every answer', () => {
    for (const row of [...train.slice(0, 4000), ...heldOut]) {
      const prompt = tokenizer.encode(formatPrompt(row));
      const whole = tokenizer.encode(`${formatPrompt(row)}${row.output}</s>`);
      expect(whole.slice(0, prompt.length)).toEqual(prompt);
      expect(tokenizer.decode(whole.slice(prompt.length), { skipSpecial: true })).toBe(row.output);
    }
  });

  it('writes any other text as bytes', () => {
    const text = 'Grüße,\n日本 🦙';
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  });
});
