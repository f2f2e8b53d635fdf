import { IGNORE_INDEX, type TrainingBatch } from '../batch.js';
import type { Dataset } from './dataset.js';

/**
 * Lays the given examples end to end. targets[i] = labels[i + 1] within a document; the last position of a document
 * predicts nothing, so no document predicts its neighbour.
 */
export function makeMicroBatch(dataset: Pick<Dataset, 'example'>, indices: ArrayLike<number>): TrainingBatch {
  const examples = Array.from(indices, (index) => dataset.example(index));
  const documentOffsets = new Int32Array(examples.length + 1);
  for (const [i, { ids }] of examples.entries()) documentOffsets[i + 1] = documentOffsets[i] + ids.length;
  const tokens = documentOffsets[examples.length];
  const ids = new Int32Array(tokens);
  const targets = new Int32Array(tokens).fill(IGNORE_INDEX);
  for (const [i, example] of examples.entries()) {
    ids.set(example.ids, documentOffsets[i]);
    targets.set(example.labels.subarray(1), documentOffsets[i]);
  }
  return {
    ids,
    targets,
    documentOffsets,
    rows: Int32Array.from(examples, ({ row }) => row),
    labelTokens: targets.reduce((count, target) => (target === IGNORE_INDEX ? count : count + 1), 0),
  };
}
