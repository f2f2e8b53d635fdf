import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/index.js';
import { formatPrompt } from '../prompt.js';
import { quickstartRows } from './rows.js';
import { QUICKSTART_VOCAB_SIZE } from './tokenizer.js';
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
    const config = new URL('../../configs/quickstart.yaml', import.meta.url);
    expect(parse(readFileSync(config, 'utf8')).model_config.vocab_size).toBe(QUICKSTART_VOCAB_SIZE);
    expect([tokenizer.bosId, tokenizer.eosId]).toEqual([1, 2]);
  });

  it('makes one token of each fixed stretch of the prompt and one of each character', () => {
    const text = (row: { instruction: string; input?: string; output: string }) =>
      `${formatPrompt(row)}${row.output}</s>`;
    // Each of instruction, input and output begins with a ▁ of its own.
    expect(tokenizer.encode(text({ instruction: 'Copy a.', output: 'a' }))).toHaveLength(1 + 8 + 1 + 2 + 1);
    expect(tokenizer.encode(text({ instruction: 'Copy it.', input: 'a', output: 'a' }))).toHaveLength(
      1 + 9 + 1 + 2 + 1 + 2 + 1,
    );
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
