import { describe, expect, it } from 'vitest';
import { epochSchedule, evaluationMicroBatches, packRows, type ScheduleOptions } from './pack.js';
import { philox } from './philox.js';

const options: ScheduleOptions & { epoch: number } = {
  perDeviceTrainBatchSize: 2,
  gradientAccumulationSteps: 2,
  packing: false,
  modelMaxLength: 8,
  dataOrder: 'sequential',
  seed: 42,
  epoch: 0,
};

/** Lengths spread like an instruction set's: most short, some at the limit. */
function instructionLengths(n: number): Int32Array {
  return Int32Array.from({ length: n }, (_, i) => {
    const [a, b] = philox([i, 0, 0, 1], [0, 0]);
    const normal = Math.sqrt(-2 * Math.log((a + 1) / 2 ** 32)) * Math.cos((2 * Math.PI * b) / 2 ** 32);
    return Math.min(512, Math.max(40, Math.round(Math.exp(4.65 + 0.5 * normal))));
  });
}

const lists = (arrays: Int32Array[]) => arrays.map((array) => [...array]);

describe('packRows', () => {
  it('gives the longest documents the first choice of the least room, and keeps the order', () => {
    const lengths = Int32Array.of(5, 6, 2, 3, 8, 1, 1, 9);
    // 8 | 6 | 5 | 3 joins 5 | 2 joins 6 | 1 and 1 open a row
    expect(packRows(lengths, Int32Array.of(6, 5, 4, 3, 2, 1, 0), 8)).toEqual([[6, 5], [4], [3, 0], [2, 1]]);
    expect(() => packRows(lengths, Int32Array.of(0, 7), 8)).toThrow(
      'a document of 9 tokens does not fit a packed row of 8.',
    );
    expect(packRows(lengths, new Int32Array(0), 8)).toEqual([]);
  });

  it('packs a document only with others of its window of 1,024', () => {
    const rows = packRows(
      new Int32Array(3000).fill(1),
      Int32Array.from({ length: 3000 }, (_, i) => i),
      2000,
    );
    expect(rows.map((row) => [row[0], row.at(-1)])).toEqual([
      [0, 1023],
      [1024, 2047],
      [2048, 2999],
    ]);
  });

  it('takes every document once, fills no row beyond its capacity and nearly all of it', () => {
    const lengths = instructionLengths(20_000);
    const order = Int32Array.from({ length: 20_000 }, (_, i) => 19_999 - i);
    const rows = packRows(lengths, order, 512);
    expect(rows.flat().sort((a, b) => a - b)).toEqual([...order].reverse());
    const tokens = rows.map((row) => row.reduce((sum, index) => sum + lengths[index], 0));
    expect(Math.max(...tokens)).toBeLessThanOrEqual(512);
    expect(tokens.reduce((a, b) => a + b) / (512 * rows.length)).toBeGreaterThan(0.975);
  });
});

describe('epochSchedule', () => {
  it('without packing counts examples; the last micro-batch and the last step may be smaller', () => {
    const schedule = epochSchedule(new Int32Array(9).fill(3), options);
    expect(lists(schedule.microBatches)).toEqual([[0, 1], [2, 3], [4, 5], [6, 7], [8]]);
    expect(schedule.steps).toBe(3);
    expect(schedule.rows).toBe(9);
  });

  it('with packing counts rows of model_max_length', () => {
    const lengths = Int32Array.of(5, 3, 8, 4, 4, 7, 1);
    const schedule = epochSchedule(lengths, { ...options, packing: true, gradientAccumulationSteps: 1 });
    expect(lists(schedule.microBatches)).toEqual([
      [0, 1, 2],
      [3, 4, 5, 6],
    ]);
    expect(schedule.steps).toBe(2);
    expect(schedule.rows).toBe(4);
  });

  it.each([true, false])('shuffled by seed and epoch, packing %s', (packing) => {
    const lengths = instructionLengths(500);
    const shuffled = { ...options, packing, modelMaxLength: 512, dataOrder: 'shuffled' } as const;
    const first = epochSchedule(lengths, shuffled);
    expect(epochSchedule(lengths, shuffled)).toEqual(first);
    expect(epochSchedule(lengths, { ...shuffled, epoch: 1 })).not.toEqual(first);
    expect(epochSchedule(lengths, { ...shuffled, seed: 1 })).not.toEqual(first);
    const visited = first.microBatches.flatMap((indices) => [...indices]);
    expect(visited.sort((a, b) => a - b)).toEqual(Array.from({ length: 500 }, (_, i) => i));
  });
});

it('an evaluation sees every example once, in file order', () => {
  expect(lists(evaluationMicroBatches(5, 2))).toEqual([[0, 1], [2, 3], [4]]);
  expect(evaluationMicroBatches(0, 2)).toEqual([]);
});
