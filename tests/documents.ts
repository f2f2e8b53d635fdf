import { IGNORE_INDEX, type TrainingBatch } from '../batch.js';

/** Documents end to end, whose labels are not shifted; without labels none has any. `rows`: their numbers. */
export function endToEnd(
  documents: readonly { ids: readonly number[]; labels?: readonly number[] }[],
  rows: readonly number[],
): TrainingBatch {
  const offsets = [0];
  for (const { ids } of documents) offsets.push(offsets.at(-1)! + ids.length);
  const targets = documents.flatMap(({ ids, labels }) =>
    labels ? [...labels.slice(1), IGNORE_INDEX] : ids.map(() => IGNORE_INDEX),
  );
  return {
    ids: Int32Array.from(documents.flatMap(({ ids }) => ids)),
    targets: Int32Array.from(targets),
    documentOffsets: Int32Array.from(offsets),
    rows: Int32Array.from(rows),
    labelTokens: targets.filter((target) => target !== IGNORE_INDEX).length,
  };
}
