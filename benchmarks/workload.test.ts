import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseCells } from './cells.js';
import { makeWorkload, meanSizes } from './workload.js';

const directory = mkdtempSync(join(tmpdir(), 'tstrain-workload-'));
const rowsFile = join(directory, 'rows.jsonl');
const [fixed, alpaca] = parseCells('260k/fp32/fixed,260k/fp32/alpaca');

beforeAll(() => {
  // Ten rows of 3 … 12 ids, the first two of which are the prompt; ids beyond the vocabulary of 512.
  const rows = Array.from({ length: 10 }, (_, row) => ({
    ids: Array.from({ length: row + 3 }, (_, i) => 600 + i),
    prompt_len: 2,
  }));
  writeFileSync(rowsFile, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
});
afterAll(() => rmSync(directory, { recursive: true }));

describe('fixed', () => {
  it('is 4 documents of 512 ids a step, all labels, the same every time', async () => {
    const { steps, ...rest } = await makeWorkload(fixed, 5, 7);
    expect(rest).toMatchObject({ stepsPerRound: 7, warmupSteps: 3, config: { vocab_size: 512 } });
    expect(meanSizes(steps)).toEqual({ tokens: 4 * 512, labels: 4 * 511 });
    const ids = steps.flat(2).flatMap((document) => document.ids);
    expect(Math.min(...ids)).toBe(3);
    expect(Math.max(...ids)).toBe(511);
    expect(steps[1][0].ids).not.toEqual(steps[0][0].ids);
    expect((await makeWorkload(fixed, 5, 7)).steps).toEqual(steps);
  });
});

describe('alpaca', () => {
  it('takes whole groups of rows in file order, ids modulo the vocabulary, labels on the response', async () => {
    const { steps } = await makeWorkload(alpaca, 5, 1, rowsFile);
    expect(steps.map((documents) => documents.map(({ ids }) => ids.length))).toEqual([
      [3, 4, 5, 6],
      [7, 8, 9, 10],
    ]);
    expect(steps[0][1]).toEqual({ ids: [88, 89, 90, 91], labels: [-100, -100, 90, 91] });
    expect(meanSizes(steps)).toEqual({ tokens: 26, labels: 18 });
  });

  it('holds no more steps than the rounds use', async () => {
    const short = join(directory, 'many.jsonl');
    writeFileSync(short, '{"ids": [1, 5, 2], "prompt_len": 1}\n'.repeat(100));
    expect((await makeWorkload(alpaca, 2, 5, short)).steps).toHaveLength(3 + 2 * 5);
  });

  it('refuses a file with too few rows', async () => {
    const few = join(directory, 'few.jsonl');
    writeFileSync(few, '{"ids": [1, 2], "prompt_len": 1}\n');
    await expect(makeWorkload(alpaca, 1, 1, few)).rejects.toThrow('a step takes 4 rows, the file has fewer');
  });
});
