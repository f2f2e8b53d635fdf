import type { Dataset } from './dataset.js';
import { IGNORE_INDEX } from './sources.js';

/** The documents of a micro-batch, end to end, without padding: what the training loop takes. */
export interface TrainingBatch {
  /** The documents end to end [tokens]. */
  ids: Int32Array;
  /** The label each position predicts, already shifted within its document; −100 = none [tokens]. */
  targets: Int32Array;
  /** Starts of the documents, and the total [documents + 1]. */
  documentOffsets: Int32Array;
  /** Row numbers in the data file, for messages [documents]. */
  rows: Int32Array;
  /** Targets that are not −100. */
  labelTokens: number;
}

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
