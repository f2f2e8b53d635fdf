import { makeMicroBatch } from '../data/batch.js';
import { countLabels, type Example, encodeAlpacaRow, encodeTokenRow } from '../data/encode.js';
import { renderUnreadKeys } from '../data/report.js';
import { addCounts, type KeyCounts, type RowBatch, type RowForm, readRows } from '../data/sources.js';
import { checkVocabulary } from '../data/vocabulary.js';
import type { LlamaForCausalLM } from '../engine/model/llama.js';
import { UserError } from '../errors.js';
import type { Tokenizer } from '../tokenizer/index.js';

/** The loss of a row of a data file. */
export interface RowScore {
  /** Row number in the data file, from 0. */
  row: number;
  tokens: number;
  /** Labels after the shift: the first token of a row has no predictor. */
  labelTokens: number;
  /** Mean over the row's labelled tokens; null without any. */
  loss: number | null;
}

/** Rows go through the model end to end, up to so many tokens at a time; a longer row goes alone. */
const MICRO_BATCH_TOKENS = 4096;

/**
 * The loss of each row of a data file, in its order; nothing is truncated.
 *
 * @param tokenizer needed for Alpaca rows
 * @param onMessage hears at the end which keys of the rows were not read
 * @throws UserError on a bad row, an id outside the vocabulary, and a loss that is not finite
 */
export async function* scoreRows(
  model: LlamaForCausalLM,
  path: string,
  tokenizer: Tokenizer | undefined,
  onMessage: (text: string) => void = () => {},
): AsyncGenerator<RowScore> {
  const { vocabSize } = model.parameters.config;
  for await (const examples of microBatches(path, tokenizer, onMessage)) {
    for (const { row, ids, labels } of examples) checkVocabulary(path, row, ids, labels, vocabSize);
    for (const score of scoreExamples(model, examples)) {
      if (score.loss !== null && !Number.isFinite(score.loss))
        throw new UserError(
          `${path}, row ${score.row}: its loss is ${score.loss}: the weights of this model overflow`,
        );
      yield score;
    }
  }
}

/** The examples of a file in its order, as many at a time as go through the model together. */
async function* microBatches(
  path: string,
  tokenizer: Tokenizer | undefined,
  onMessage: (text: string) => void,
): AsyncGenerator<Example[]> {
  let examples: Example[] = [];
  let tokens = 0;
  let form: RowForm | undefined;
  const unreadKeys: KeyCounts = new Map();
  for await (const batch of readRows(path)) {
    form = batch.form;
    addCounts(unreadKeys, batch.unreadKeys);
    for (const example of wholeExamples(batch, tokenizer)) {
      if (examples.length > 0 && tokens + example.ids.length > MICRO_BATCH_TOKENS) {
        yield examples;
        examples = [];
        tokens = 0;
      }
      examples.push(example);
      tokens += example.ids.length;
    }
  }
  yield examples;
  if (form !== undefined && unreadKeys.size > 0) onMessage(renderUnreadKeys({ form, unreadKeys }));
}

function* wholeExamples(batch: RowBatch, tokenizer: Tokenizer | undefined): Generator<Example> {
  for (let i = 0; i < batch.rows.length; i++) {
    const encoded =
      batch.form === 'tokens'
        ? encodeTokenRow(batch.rows[i], Number.POSITIVE_INFINITY)
        : encodeAlpacaRow(batch.rows[i], tokenizer!, Number.POSITIVE_INFINITY);
    yield { ...encoded, row: batch.firstRow + i };
  }
}

function scoreExamples(model: LlamaForCausalLM, examples: readonly Example[]): RowScore[] {
  const counts = examples.map(({ labels }) => countLabels(labels));
  const labelled = examples.filter((_, i) => counts[i] > 0);
  const losses =
    labelled.length === 0
      ? new Float32Array()
      : model.losses(makeMicroBatch({ example: (index) => labelled[index] }, [...labelled.keys()]));
  let end = 0;
  return examples.map(({ row, ids }, i) => {
    const own = losses.subarray(end, (end += counts[i]));
    const loss = counts[i] === 0 ? null : own.reduce((total, x) => total + x, 0) / counts[i];
    return { row, tokens: ids.length, labelTokens: counts[i], loss };
  });
}
