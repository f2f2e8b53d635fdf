import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { describeShared, shared } from '../../tests/shared.js';
import { meanSizes } from '../workload.js';
import { ALPACA_LENGTHS } from './alpaca_lengths.js';
import { cardWorkload, modelOfCell, TINY_CELLS } from './card_cells.js';

it('full rows are 64 of 512 tokens a step, 8 at a time, every id a label', () => {
  const { steps, documentsPerBatch, config, warmupSteps } = cardWorkload({ shape: '7b', rows: 'full' }, 3);
  expect(steps.map((documents) => documents.length)).toEqual([64, 64, 64, 64, 64]);
  expect(documentsPerBatch).toBe(8);
  expect(warmupSteps).toBe(5);
  expect(meanSizes(steps)).toEqual({ tokens: 64 * 512, labels: 64 * 511 });
  expect(config).toMatchObject({ hidden_size: 4096, tie_word_embeddings: false });
  expect(modelOfCell(cardWorkload({ shape: '1.1b', rows: 'full' }, 1)).length).toBe(512);
});

it('rows of real lengths have labels on their answers, and each comes up', () => {
  const workload = cardWorkload({ shape: '1.1b', rows: 'alpaca' }, 3);
  const rows = workload.steps.flat();
  const [prompt, answer] = ALPACA_LENGTHS[7];
  expect(rows[7].ids).toHaveLength(prompt + answer);
  expect(rows[7].labels.filter((label) => label !== -100)).toEqual(rows[7].ids.slice(prompt));
  expect(rows.slice(0, 320).map(({ ids }) => ids.length)).toEqual(
    ALPACA_LENGTHS.slice(0, 320).map(([p, a]) => p + a),
  );
  // Attention sees longer rows than the mean one: a token is more often in a long row.
  const mean = meanSizes(workload.steps).tokens / 64;
  expect(modelOfCell(workload).length).toBeGreaterThan(mean);
});

it('the tiny ones learn something too', () => {
  const { steps } = cardWorkload(TINY_CELLS[0], 1);
  for (const { ids, labels } of steps.flat()) {
    expect(ids.length).toBeLessThanOrEqual(24);
    expect(labels.at(-1)).toBe(ids.at(-1));
  }
});

describeShared('the lengths', ['goldens/alpaca'], () => {
  it('are those of the rows', () => {
    const lines = readFileSync(shared('goldens/alpaca/rows_512.jsonl'), 'utf8').trim().split('\n');
    const lengths = lines.map((line) => {
      const { ids, prompt_len } = JSON.parse(line);
      return [prompt_len, ids.length - prompt_len];
    });
    expect(ALPACA_LENGTHS).toEqual(lengths);
  });
});
