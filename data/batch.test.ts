import { expect, it } from 'vitest';
import { makeMicroBatch } from './batch.js';

const examples = [
  { ids: Int32Array.of(1, 7, 8, 2), labels: Int32Array.of(-100, -100, 8, 2), row: 4, truncated: 0 },
  { ids: Int32Array.of(1), labels: Int32Array.of(1), row: 5, truncated: 3 },
  { ids: Int32Array.of(1, 9, 2), labels: Int32Array.of(1, -100, 2), row: 9, truncated: 0 },
];
const dataset = { example: (index: number) => examples[index] };

it('lays documents end to end, labels shifted within each', () => {
  expect(makeMicroBatch(dataset, Int32Array.of(2, 1, 0))).toEqual({
    ids: Int32Array.of(1, 9, 2, 1, 1, 7, 8, 2),
    targets: Int32Array.of(-100, 2, -100, -100, -100, 8, 2, -100),
    documentOffsets: Int32Array.of(0, 3, 4, 8),
    rows: Int32Array.of(9, 5, 4),
    labelTokens: 3,
  });
});

it('a micro-batch may have no label at all', () => {
  expect(makeMicroBatch(dataset, [1])).toEqual({
    ids: Int32Array.of(1),
    targets: Int32Array.of(-100),
    documentOffsets: Int32Array.of(0, 1),
    rows: Int32Array.of(5),
    labelTokens: 0,
  });
});
