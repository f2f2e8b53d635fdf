import { IGNORE_INDEX } from '../batch.js';
import { UserError } from '../errors.js';
import type { Tokenizer } from '../tokenizer/index.js';
import { type AlpacaRow, formatPrompt } from './prompt.js';
import { addCounts, type KeyCounts, labelsAfter, type RowBatch, type TokenRow } from './sources.js';

/** One row as the model sees it. */
export interface Example {
  /** [n] */
  ids: Int32Array;
  /** [n], not shifted: labels[i] belongs to ids[i]; IGNORE_INDEX = none. */
  labels: Int32Array;
  /** Row number in the data file, from 0. */
  row: number;
  /** Number of ids cut off at the end by the length limit. */
  truncated: number;
}

/** The examples of consecutive rows, end to end. */
export interface EncodedRows {
  /** Ids and labels of all rows [tokens]. */
  ids: Int32Array;
  labels: Int32Array;
  /** [rows] */
  lengths: Int32Array;
  /** [rows] */
  truncated: Int32Array;
  /** Rows (numbered within the file) whose output is empty or white space. */
  emptyOutputs: number[];
  unreadKeys: KeyCounts;
}

/**
 * An Alpaca row as Stanford's train.py makes it: BOS (where the tokenizer puts it before a text), prompt, output and
 * EOS, cut on the right to `modelMaxLength` ids; no label on as many ids as the prompt alone has, encoded and cut the same way.
 *
 * Prompt and output are joined as text before encoding, so the prompt's own ids need not be a prefix of the row's.
 * EOS is a special token, which is split off the text before anything else is encoded: appending its id is the same
 * as appending its text.
 */
export function encodeAlpacaRow(
  row: AlpacaRow,
  tokenizer: Tokenizer,
  modelMaxLength: number,
): Omit<Example, 'row'> {
  const { prefix } = tokenizer;
  const eosId = eosOf(tokenizer);
  const prompt = formatPrompt(row);
  const promptLength = Math.min(prefix.length + tokenizer.encode(prompt).length, modelMaxLength);
  const whole = [...prefix, ...tokenizer.encode(prompt + row.output), eosId];
  const ids = Int32Array.from(whole.slice(0, modelMaxLength));
  return { ids, labels: labelsAfter(ids, promptLength), truncated: whole.length - ids.length };
}

/**
 * The end-of-sequence id that every encoded row closes with.
 * @throws UserError when the tokenizer has none
 */
export function eosOf({ eosId, directory }: Tokenizer): number {
  if (eosId !== undefined) return eosId;
  throw new UserError(
    `The tokenizer in ${directory} names no eos_token, and a model trained without one never stops. ` +
      'Set eos_token in its tokenizer_config.json.',
  );
}

/** A pre-tokenised row cut on the right to `modelMaxLength` ids. */
export function encodeTokenRow({ ids, labels }: TokenRow, modelMaxLength: number): Omit<Example, 'row'> {
  return {
    ids: ids.subarray(0, modelMaxLength),
    labels: labels.subarray(0, modelMaxLength),
    truncated: Math.max(0, ids.length - modelMaxLength),
  };
}

/** Encodes a batch of rows; Alpaca rows need the tokenizer. */
export function encodeRows(
  batch: RowBatch,
  tokenizer: Tokenizer | undefined,
  modelMaxLength: number,
): EncodedRows {
  if (batch.form === 'tokens')
    return joinExamples(
      batch.rows.map((row) => encodeTokenRow(row, modelMaxLength)),
      { emptyOutputs: [], unreadKeys: batch.unreadKeys },
    );
  return joinExamples(
    batch.rows.map((row) => encodeAlpacaRow(row, tokenizer!, modelMaxLength)),
    {
      emptyOutputs: batch.rows.flatMap(({ output }, i) => (output.trim() === '' ? [batch.firstRow + i] : [])),
      unreadKeys: batch.unreadKeys,
    },
  );
}

function joinExamples(
  examples: Omit<Example, 'row'>[],
  found: Pick<EncodedRows, 'emptyOutputs' | 'unreadKeys'>,
): EncodedRows {
  return {
    ids: concat(examples.map(({ ids }) => ids)),
    labels: concat(examples.map(({ labels }) => labels)),
    lengths: Int32Array.from(examples, ({ ids }) => ids.length),
    truncated: Int32Array.from(examples, ({ truncated }) => truncated),
    ...found,
  };
}

/** Encoded rows end to end, in the order given. */
export function joinEncoded(parts: EncodedRows[]): EncodedRows {
  const unreadKeys: KeyCounts = new Map();
  for (const part of parts) addCounts(unreadKeys, part.unreadKeys);
  return {
    ids: concat(parts.map(({ ids }) => ids)),
    labels: concat(parts.map(({ labels }) => labels)),
    lengths: concat(parts.map(({ lengths }) => lengths)),
    truncated: concat(parts.map(({ truncated }) => truncated)),
    emptyOutputs: parts.flatMap(({ emptyOutputs }) => emptyOutputs),
    unreadKeys,
  };
}

function concat(arrays: Int32Array[]): Int32Array {
  const result = new Int32Array(arrays.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const array of arrays) {
    result.set(array, offset);
    offset += array.length;
  }
  return result;
}

/** Number of positions with a label once labels are shifted: the first label of a document has no predictor. */
export function countLabels(labels: Int32Array): number {
  let count = 0;
  for (let i = 1; i < labels.length; i++) if (labels[i] !== IGNORE_INDEX) count++;
  return count;
}
