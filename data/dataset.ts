import { createHash } from 'node:crypto';
import { reasonOf, UserError } from '../errors.js';
import type { Tokenizer } from '../tokenizer/index.js';
import { cacheFile, defaultCacheDirectory, hashFile, hashRows, readCache, writeCache } from './cache.js';
import type { EncodedRows, Example } from './encode.js';
import { type DatasetReport, findDuplicates, labelCountsOf } from './report.js';
import { detectForm } from './sources.js';
import { tokeniseFile } from './tokenise.js';
import { checkVocabulary } from './vocabulary.js';

export interface DatasetOptions {
  /** A data file as readRows reads it. */
  path: string;
  /** Gives the tokenizer, which Alpaca rows need; not called for pre-tokenised ones. */
  tokenizer?: () => Tokenizer;
  /** Rows are cut to so many ids, BOS included; Infinity never cuts. */
  modelMaxLength: number;
  /** Keep rows without a label as examples of zero weight, as the paper's run did; else they are dropped. */
  keepUnlabelledRows: boolean;
  /** The model's vocabulary: ids beyond it are refused. */
  vocabSize?: number;
  /** Worker threads for tokenising. */
  threads: number;
  /** Default: defaultCacheDirectory(). */
  cacheDirectory?: string;
}

/** A tokenised data file, in memory. Examples are the rows in use, in file order. */
export interface Dataset {
  /** Number of examples. */
  readonly length: number;
  /** Tokens of every example [length]. */
  readonly lengths: Int32Array;
  /** Labelled positions of every example, after the shift [length]. */
  readonly labelCounts: Int32Array;
  /** Identity of the content (ids, labels, rows in use), whatever file it came from. */
  readonly hash: string;
  readonly report: DatasetReport;
  /** The example's arrays are views: not to be written to. */
  example(index: number): Example;
}

/**
 * Reads and tokenises a whole data file, or takes it from the cache when the same content was tokenised before with
 * the same tokenizer and length limit. A damaged cache file is noticed and made again; a cache that cannot be
 * written costs time only, and the report says so.
 *
 * @throws UserError on a bad file (see readRows), Alpaca rows without a tokenizer, an id outside the vocabulary, and
 * when there is no row with a label to learn from
 */
export async function loadDataset(options: DatasetOptions): Promise<Dataset> {
  const { path, modelMaxLength, keepUnlabelledRows } = options;
  const form = await detectForm(path);
  if (form === 'alpaca' && options.tokenizer === undefined)
    throw new UserError(
      `${path} holds text: a tokenizer is needed to read it. Set tokenizer_name_or_path to a directory with ` +
        'tokenizer.json, or give pre-tokenised rows ("ids" with "labels" or "prompt_len").',
    );
  const tokenizer = form === 'alpaca' ? options.tokenizer!() : undefined;

  const fileHash = await hashFile(path);
  const cacheDirectory = options.cacheDirectory ?? defaultCacheDirectory();
  const file =
    cacheDirectory && cacheFile(cacheDirectory, { fileHash, tokenizerHash: tokenizer?.hash, modelMaxLength });
  const cached = file === undefined ? 'absent' : await readCache(file);
  let encoded: EncodedRows;
  let hash: string;
  let tokenising: DatasetReport['tokenising'] = { seconds: 0, threads: null };
  let cache: DatasetReport['cache'] = { file, state: 'read' };
  if (typeof cached === 'object') {
    ({ encoded, hash } = cached);
  } else {
    const start = performance.now();
    const { threads } = options;
    const result = await tokeniseFile({ path, tokenizer, modelMaxLength, threads });
    tokenising = { seconds: (performance.now() - start) / 1000, threads: result.threads };
    encoded = result.encoded;
    hash = await hashRows(encoded);
    if ((await hashFile(path)) !== fileHash)
      throw new UserError(`${path} was changed while it was being read. Start again once it is complete.`);
    cache = await keep(file, encoded, hash, cached);
  }

  const rowsRead = encoded.lengths.length;
  // Sums of tokens can pass 2³¹.
  const starts = new Float64Array(rowsRead + 1);
  for (let row = 0; row < rowsRead; row++) starts[row + 1] = starts[row] + encoded.lengths[row];
  const idsAndLabels = (row: number): [Int32Array, Int32Array] => [
    encoded.ids.subarray(starts[row], starts[row + 1]),
    encoded.labels.subarray(starts[row], starts[row + 1]),
  ];
  if (options.vocabSize !== undefined)
    for (let row = 0; row < rowsRead; row++)
      checkVocabulary(path, row, ...idsAndLabels(row), options.vocabSize);
  const rowLabels = labelCountsOf(encoded);
  const allRows = Int32Array.from({ length: rowsRead }, (_, row) => row);
  const labelled = allRows.filter((row) => rowLabels[row] > 0);
  if (labelled.length === 0)
    throw new UserError(
      `${path}: none of its ${rowsRead} rows has a label to learn from` +
        (encoded.truncated.some((by) => by > 0)
          ? `; rows were cut to model_max_length ${modelMaxLength}, which leaves nothing of the response. Raise it.`
          : '. A row needs at least two ids and a label on one that is not its first.'),
    );
  const rows = keepUnlabelledRows ? allRows : labelled;
  const lengths = rows.map((row) => encoded.lengths[row]);
  const labelCounts = rows.map((row) => rowLabels[row]);

  return {
    length: rows.length,
    lengths,
    labelCounts,
    hash: createHash('sha256').update(hash).update(new Uint8Array(rows.buffer)).digest('hex'),
    report: {
      path,
      form,
      modelMaxLength,
      rowsRead,
      truncated: Array.from(
        allRows.filter((row) => encoded.truncated[row] > 0),
        (row) => ({
          row,
          by: encoded.truncated[row],
        }),
      ),
      unlabelled: Array.from(allRows.filter((row) => rowLabels[row] === 0)),
      unlabelledKept: keepUnlabelledRows,
      emptyOutputs: encoded.emptyOutputs,
      unreadKeys: encoded.unreadKeys,
      duplicates: findDuplicates(encoded),
      examples: rows.length,
      tokens: lengths.reduce((sum, length) => sum + length, 0),
      labelTokens: labelCounts.reduce((sum, labels) => sum + labels, 0),
      longest: lengths.reduce((longest, length) => Math.max(longest, length), 0),
      tokenising,
      cache,
    },
    example(index) {
      const row = rows[index];
      if (row === undefined) throw new RangeError(`example ${index} of ${rows.length}`);
      const [ids, labels] = idsAndLabels(row);
      return { ids, labels, row, truncated: encoded.truncated[row] };
    },
  };
}

/** Writes the cache file, if there is to be one. */
async function keep(
  file: string | undefined,
  encoded: EncodedRows,
  hash: string,
  before: 'absent' | 'damaged',
): Promise<DatasetReport['cache']> {
  if (file === undefined)
    return { file, state: 'not written', reason: 'this user has no home; set XDG_CACHE_HOME' };
  try {
    await writeCache(file, encoded, hash);
    return { file, state: before === 'damaged' ? 'remade' : 'written' };
  } catch (error) {
    const { path = file, message } = error as NodeJS.ErrnoException;
    return { file, state: 'not written', reason: `${path}: ${reasonOf(error) ?? message}` };
  }
}
