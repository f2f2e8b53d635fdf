import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { UserError } from '../errors.js';
import { describeShared, shared } from '../tests/shared.js';
import type { AlpacaRow } from './prompt.js';
import { addCounts, detectForm, type KeyCounts, readRows, type TokenRow } from './sources.js';

const folder = mkdtempSync(join(tmpdir(), 'tstrain-sources-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(...rows: unknown[]): string {
  const path = join(folder, 'rows.jsonl');
  writeFileSync(path, rows.map((row) => JSON.stringify(row)).join('\n'));
  return path;
}

async function all(path: string): Promise<(AlpacaRow | TokenRow)[]> {
  const rows: (AlpacaRow | TokenRow)[] = [];
  for await (const batch of readRows(path)) {
    expect(batch.firstRow).toBe(rows.length);
    rows.push(...batch.rows);
  }
  return rows;
}

async function failure(...rows: unknown[]): Promise<string> {
  const error = await all(file(...rows)).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(UserError);
  return (error as Error).message.replace(folder, 'DIR');
}

describe('Alpaca rows', () => {
  it('need no input and may have other keys', async () => {
    const path = file(
      { instruction: 'a', output: 'b', system: '', history: [], tools: null, images: {} },
      { id: 7, instruction: '', input: 'c', output: '', history: [['q', 'a']], flag: false },
    );
    expect(await all(path)).toEqual([
      { instruction: 'a', input: '', output: 'b' },
      { instruction: '', input: 'c', output: '' },
    ]);
    expect(await detectForm(path)).toBe('alpaca');
    const counts: KeyCounts = new Map();
    for await (const { unreadKeys } of readRows(path)) addCounts(counts, unreadKeys);
    expect(Object.fromEntries(counts)).toEqual({ id: 1, history: 1, flag: 1 });
  });

  it('are refused by line, row and key', async () => {
    const good = { instruction: 'a', output: 'b' };
    expect(await failure(good, { instruction: 'a', response: 'b' })).toBe(
      'DIR/rows.jsonl, line 2 (row 1): key "output" is missing; the row has "instruction", "response".',
    );
    expect(await failure(good, { output: 'a' })).toContain('key "instruction" is missing');
    expect(await failure({ ...good, output: null })).toBe(
      'DIR/rows.jsonl, line 1 (row 0): key "output" must be a string, not null.',
    );
    expect(await failure({ ...good, output: 42 })).toContain(
      'key "output" must be a string, not the number 42.',
    );
    expect(await failure({ ...good, output: ['x'] })).toContain(
      'key "output" must be a string, not an array.',
    );
    expect(await failure(good, 3)).toContain('line 2 (row 1): expected a JSON object, not the number 3.');
    expect(await failure({ messages: [] })).toBe(
      'DIR/rows.jsonl, line 1 (row 0): the row has the keys "messages"; expected "instruction", "output" and ' +
        'optionally "input", or "ids" with "labels" or "prompt_len".',
    );
  });
});

describe('pre-tokenised rows', () => {
  it('carry labels or a prompt length', async () => {
    const path = file(
      { ids: [1, 5, 6], labels: [-100, 5, -100], prompt_len: 9 },
      { ids: [1, 5, 6], prompt_len: 2, note: 'x' },
      { ids: [1], prompt_len: 0 },
      { ids: [2147483647], prompt_len: 1 },
    );
    expect(await all(path)).toEqual([
      { ids: Int32Array.of(1, 5, 6), labels: Int32Array.of(-100, 5, -100) },
      { ids: Int32Array.of(1, 5, 6), labels: Int32Array.of(-100, -100, 6) },
      { ids: Int32Array.of(1), labels: Int32Array.of(1) },
      { ids: Int32Array.of(2147483647), labels: Int32Array.of(-100) },
    ]);
    expect(await detectForm(path)).toBe('tokens');
  });

  it('are refused by line, row and key', async () => {
    const good = { ids: [1, 2], prompt_len: 1 };
    const where = 'DIR/rows.jsonl, line 2 (row 1): ';
    expect(await failure(good, { instruction: 'a' })).toBe(
      `${where}key "ids" is missing; the row has "instruction".`,
    );
    expect(await failure(good, { ids: [1] })).toBe(
      `${where}expected "labels" or "prompt_len" beside "ids"; neither is there.`,
    );
    expect(await failure(good, { ids: '1 2', labels: [] })).toBe(
      `${where}key "ids" must be an array of integers, not the string "1 2".`,
    );
    expect(await failure(good, { ids: [], labels: [] })).toBe(
      `${where}key "ids" is empty; a row needs at least one token.`,
    );
    for (const [bad, named] of [
      [-1, '-1'],
      [-100, '-100'],
      [1.5, '1.5'],
      [2 ** 31, '2147483648'],
      [null, 'null'],
      ['2', 'the string "2"'],
    ])
      expect(await failure(good, { ids: [1, bad], prompt_len: 1 })).toBe(
        `${where}"ids"[1] is ${named}; expected a token id (an integer from 0).`,
      );
    expect(await failure(good, { ids: [1, 2], labels: [-100, -1] })).toBe(
      `${where}"labels"[1] is -1; expected a token id (an integer from 0) or -100.`,
    );
    expect(await failure(good, { ids: [1, 2], labels: [1] })).toBe(
      `${where}"labels" has 1 entries and "ids" 2; they must be equal.`,
    );
    expect(await failure(good, { ids: [1, 2], prompt_len: 3 })).toBe(
      `${where}"prompt_len" is 3; expected 0 to 2, the number of ids.`,
    );
    expect(await failure(good, { ids: [1, 2], prompt_len: -1 })).toContain(
      '"prompt_len" is -1; expected 0 to 2',
    );
    expect(await failure(good, { ids: [1, 2], prompt_len: '1' })).toContain(
      'key "prompt_len" must be an integer, not the string "1".',
    );
  });
});

it('a file without rows is refused', async () => {
  const path = join(folder, 'none.json');
  writeFileSync(path, '[]');
  await expect(all(path)).rejects.toThrow(new UserError(`${path} holds no rows.`));
  await expect(detectForm(path)).rejects.toThrow(/holds no rows/);
});

describeShared('the full Alpaca file', ['data/alpaca_davinci_52k.json'], () => {
  it('is read in file order', async () => {
    const rows = await all(shared('data/alpaca_davinci_52k.json'));
    expect(rows).toHaveLength(51_924);
    expect(rows[0]).toMatchObject({ instruction: 'Give three tips for staying healthy.', input: '' });
  });
});
