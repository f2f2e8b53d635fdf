import { UserError } from '../errors.js';

/** @throws UserError naming file and row when an id or a label of the row is outside the model's vocabulary. */
export function checkVocabulary(
  path: string,
  row: number,
  ids: Int32Array,
  labels: Int32Array,
  vocabSize: number,
): void {
  for (let i = 0; i < ids.length; i++) {
    const largest = Math.max(ids[i], labels[i]);
    if (largest < vocabSize) continue;
    throw new UserError(
      `${path}, row ${row}: id ${ids[i] >= vocabSize ? ids[i] : labels[i]} is outside the model's vocabulary of ` +
        `${vocabSize} (ids 0 to ${vocabSize - 1}). The data or the tokenizer belongs to another model.`,
    );
  }
}
