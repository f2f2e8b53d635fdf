import { countLabels, type EncodedRows } from './encode.js';
import { KEYS, type KeyCounts, type RowForm } from './sources.js';

/** What was found in a data file before training. Row numbers count from 0, in file order. */
export interface DatasetReport {
  path: string;
  form: RowForm;
  modelMaxLength: number;
  rowsRead: number;
  /** Rows cut to modelMaxLength, and by how many ids each. */
  truncated: { row: number; by: number }[];
  /** Rows without a label to learn from (after the cut and the shift), and whether they stay as examples. */
  unlabelled: number[];
  unlabelledKept: boolean;
  /** Alpaca rows whose output is empty or white space. */
  emptyOutputs: number[];
  unreadKeys: KeyCounts;
  /** Rows with the same ids and labels as an earlier one, which they name. They stay. */
  duplicates: { row: number; of: number }[];
  /** Over the examples in use: their number, tokens, labelled tokens (after the shift), longest length. */
  examples: number;
  tokens: number;
  labelTokens: number;
  longest: number;
  /** Where the ids come from; null threads = from the cache. */
  tokenising: { seconds: number; threads: number | null };
  /** No file for a user without a home. */
  cache: { file: string | undefined; state: 'read' | 'written' | 'remade' | 'not written'; reason?: string };
}

/** Rows whose ids and labels equal an earlier row's. */
export function findDuplicates({ ids, labels, lengths }: EncodedRows): { row: number; of: number }[] {
  const duplicates: { row: number; of: number }[] = [];
  const seen = new Map<number, { row: number; start: number }[]>();
  let start = 0;
  for (const [row, length] of lengths.entries()) {
    let hash = length;
    for (let i = start; i < start + length; i++) {
      // FNV-1a over words; equal rows are compared below, so a collision costs time only.
      hash = Math.imul(hash ^ ids[i], 0x01000193);
      hash = Math.imul(hash ^ labels[i], 0x01000193);
    }
    const rowStart = start;
    const alike = seen.get(hash) ?? [];
    const first = alike.find(
      (other) =>
        lengths[other.row] === length &&
        equal(ids, other.start, rowStart, length) &&
        equal(labels, other.start, rowStart, length),
    );
    if (first !== undefined) duplicates.push({ row, of: first.row });
    else seen.set(hash, [...alike, { row, start }]);
    start += length;
  }
  return duplicates;
}

function equal(array: Int32Array, a: number, b: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (array[a + i] !== array[b + i]) return false;
  return true;
}

/** Labelled positions of every row, counted after the shift [rows]. */
export function labelCountsOf({ labels, lengths }: EncodedRows): Int32Array {
  let start = 0;
  return lengths.map((length) => countLabels(labels.subarray(start, (start += length))));
}

const LISTED_ROWS = 10;

/** The report as lines for a person: what was read, then whatever deserves a look, with row numbers. */
export function renderReport(report: DatasetReport): string[] {
  const { truncated, unlabelled, emptyOutputs, duplicates, tokenising, cache } = report;
  const lines = [
    `${report.path}: ${plural(report.rowsRead, 'row')}, ${count(report.examples)} used; ${plural(report.tokens, 'token')}, ` +
      `${count(report.labelTokens)} with a label; the longest row has ${count(report.longest)}`,
  ];
  if (truncated.length > 0) {
    const tokens = truncated.reduce((sum, { by }) => sum + by, 0);
    lines.push(
      `${plural(truncated.length, 'row')} (${percent(truncated.length, report.rowsRead)}) cut to model_max_length ` +
        `${report.modelMaxLength}, losing ${plural(tokens, 'token')}: ` +
        list(truncated.map(({ row, by }) => `row ${row} (by ${by})`)),
    );
  }
  if (unlabelled.length > 0)
    lines.push(
      `${plural(unlabelled.length, 'row')} without a label left, ` +
        `${report.unlabelledKept ? 'kept at zero weight (keep_unlabelled_rows)' : 'dropped'}: ` +
        list(unlabelled.map((row) => `row ${row}`)),
    );
  if (emptyOutputs.length > 0)
    lines.push(
      `${plural(emptyOutputs.length, 'row')} with an empty output: ${list(emptyOutputs.map((row) => `row ${row}`))}`,
    );
  if (duplicates.length > 0)
    lines.push(
      `${plural(duplicates.length, 'row')} equal to an earlier row: ` +
        list(duplicates.map(({ row, of }) => `row ${row} (as ${of})`)),
    );
  if (report.unreadKeys.size > 0) lines.push(renderUnreadKeys(report));
  const { threads, seconds } = tokenising;
  lines.push(
    threads === null
      ? `tokens read from the cache ${cache.file}`
      : `tokenised in ${seconds.toFixed(1)} s on ${plural(threads, 'thread')}; ` +
          (cache.state === 'not written'
            ? `not kept, the cache cannot be written: ${cache.reason}`
            : `kept in ${cache.file}${cache.state === 'remade' ? ', which was damaged and has been remade' : ''}`),
  );
  return lines;
}

/** A line on keys that are not used, such as `system` and `history`: whoever writes them expects them to count. */
export function renderUnreadKeys({ form, unreadKeys }: Pick<DatasetReport, 'form' | 'unreadKeys'>): string {
  const most = [...unreadKeys].sort(([, a], [, b]) => b - a);
  const keys = list(most.map(([key, rows]) => `${JSON.stringify(key)} (filled in ${plural(rows, 'row')})`));
  return `keys that are not used: ${keys}; ${KEYS[form].join(', ')} are`;
}

function list(entries: string[]): string {
  const shown = entries.slice(0, LISTED_ROWS).join(', ');
  return entries.length > LISTED_ROWS ? `${shown} and ${count(entries.length - LISTED_ROWS)} more` : shown;
}

function plural(number: number, word: string): string {
  return `${count(number)} ${word}${number === 1 ? '' : 's'}`;
}

function count(number: number): string {
  return number.toLocaleString('en-US');
}

function percent(part: number, whole: number): string {
  return `${((100 * part) / whole).toFixed(1)} %`;
}
