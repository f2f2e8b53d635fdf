import { IGNORE_INDEX } from '../batch.js';
import { UserError } from '../errors.js';
import { type JsonValue, readJsonValues } from './json_values.js';
import type { AlpacaRow } from './prompt.js';

/** A pre-tokenised row: ids [n], and labels [n] not yet shifted (IGNORE_INDEX = none), n ≥ 1. */
export interface TokenRow {
  ids: Int32Array;
  labels: Int32Array;
}

export type RowForm = 'alpaca' | 'tokens';

/** The keys that are read of rows of a form. */
export const KEYS = {
  alpaca: ['instruction', 'input', 'output'],
  tokens: ['ids', 'labels', 'prompt_len'],
} as const satisfies Record<RowForm, readonly string[]>;

/** Keys of rows that are not read, and in how many rows each holds something. */
export type KeyCounts = Map<string, number>;

/** Adds the counts of more rows. */
export function addCounts(counts: KeyCounts, more: Readonly<KeyCounts>): void {
  for (const [key, rows] of more) counts.set(key, (counts.get(key) ?? 0) + rows);
}

/** Consecutive rows of a data file. */
export type RowBatch = { firstRow: number; unreadKeys: KeyCounts } & (
  | { form: 'alpaca'; rows: AlpacaRow[] }
  | { form: 'tokens'; rows: TokenRow[] }
);

/**
 * Reads a data file: a JSON array or JSON Lines, whose first row decides the form of all:
 * - Alpaca: `{"instruction": text, "input"?: text, "output": text}`;
 * - pre-tokenised: `{"ids": [...], "labels": [...]}` (labels not shifted, −100 = none) or
 *   `{"ids": [...], "prompt_len": n}` (the first n ids carry no label). With both, `labels` counts.
 *
 * Other keys are not read, but counted. Rows come in file order, some hundreds at a time; the file is never held whole.
 *
 * @throws UserError naming file, line, row (from 0) and key at the first row that is not of the form.
 */
export async function* readRows(path: string): AsyncGenerator<RowBatch> {
  let form: RowForm | undefined;
  for await (const values of readJsonValues(path)) {
    form ??= formOf(path, values[0]);
    const firstRow = values[0].row;
    if (form === 'alpaca') {
      const rows = values.map((value) => alpacaRow(path, value));
      yield { form, firstRow, rows, unreadKeys: unreadKeysOf(values, form) };
    } else {
      const rows = values.map((value) => tokenRow(path, value));
      yield { form, firstRow, rows, unreadKeys: unreadKeysOf(values, form) };
    }
  }
  if (form === undefined) throw new UserError(`${path} holds no rows.`);
}

/** The form of a data file, from its first rows. Throws as readRows does. */
export async function detectForm(path: string): Promise<RowForm> {
  for await (const batch of readRows(path)) return batch.form;
  throw new UserError(`${path} holds no rows.`);
}

function formOf(path: string, first: JsonValue): RowForm {
  const row = objectOf(path, first);
  if ('ids' in row) return 'tokens';
  if ('instruction' in row) return 'alpaca';
  throw at(
    path,
    first,
    `the row has the keys ${quoteAll(Object.keys(row))}; expected "instruction", "output" and optionally "input", ` +
      'or "ids" with "labels" or "prompt_len".',
  );
}

function alpacaRow(path: string, value: JsonValue): AlpacaRow {
  const row = objectOf(path, value);
  const text = (key: string): string => {
    const field = row[key];
    if (typeof field === 'string') return field;
    if (field === undefined)
      throw at(path, value, `key "${key}" is missing; the row has ${quoteAll(Object.keys(row))}.`);
    throw at(path, value, `key "${key}" must be a string, not ${kindOf(field)}.`);
  };
  return {
    instruction: text('instruction'),
    // Tables exported as JSON say null for "none".
    input: row.input === undefined || row.input === null ? '' : text('input'),
    output: text('output'),
  };
}

function tokenRow(path: string, value: JsonValue): TokenRow {
  const row = objectOf(path, value);
  if (row.ids === undefined)
    throw at(path, value, `key "ids" is missing; the row has ${quoteAll(Object.keys(row))}.`);
  const ids = integers(path, value, 'ids', row.ids, false);
  if (ids.length === 0) throw at(path, value, 'key "ids" is empty; a row needs at least one token.');
  if (row.labels !== undefined) {
    const labels = integers(path, value, 'labels', row.labels, true);
    if (labels.length !== ids.length)
      throw at(
        path,
        value,
        `"labels" has ${labels.length} entries and "ids" ${ids.length}; they must be equal.`,
      );
    return { ids, labels };
  }
  const promptLength = row.prompt_len;
  if (promptLength === undefined)
    throw at(path, value, 'expected "labels" or "prompt_len" beside "ids"; neither is there.');
  if (typeof promptLength !== 'number' || !Number.isInteger(promptLength))
    throw at(path, value, `key "prompt_len" must be an integer, not ${kindOf(promptLength)}.`);
  if (promptLength < 0 || promptLength > ids.length)
    throw at(path, value, `"prompt_len" is ${promptLength}; expected 0 to ${ids.length}, the number of ids.`);
  return { ids, labels: labelsAfter(ids, promptLength) };
}

function unreadKeysOf(values: readonly JsonValue[], form: RowForm): KeyCounts {
  const read: readonly string[] = KEYS[form];
  const counts: KeyCounts = new Map();
  for (const { value } of values)
    for (const [key, field] of Object.entries(value as object))
      if (!read.includes(key) && isFilled(field)) counts.set(key, (counts.get(key) ?? 0) + 1);
  return counts;
}

/** Whether a field says something: tables exported as JSON have every key in every row. */
function isFilled(field: unknown): boolean {
  if (field === null || field === '') return false;
  return typeof field !== 'object' || Object.keys(field).length > 0;
}

/** Labels [n] of ids [n] whose first `promptLength` carry none. */
export function labelsAfter(ids: Int32Array, promptLength: number): Int32Array {
  return ids.slice().fill(IGNORE_INDEX, 0, promptLength);
}

function integers(
  path: string,
  value: JsonValue,
  key: string,
  field: unknown,
  orIgnored: boolean,
): Int32Array {
  if (!Array.isArray(field))
    throw at(path, value, `key "${key}" must be an array of integers, not ${kindOf(field)}.`);
  const result = new Int32Array(field.length);
  for (let i = 0; i < field.length; i++) {
    const entry: unknown = field[i];
    const good =
      typeof entry === 'number' &&
      Number.isInteger(entry) &&
      ((entry >= 0 && entry <= 0x7fffffff) || (orIgnored && entry === IGNORE_INDEX));
    if (!good)
      throw at(
        path,
        value,
        `"${key}"[${i}] is ${typeof entry === 'number' ? entry : kindOf(entry)}; expected a token id ` +
          `(an integer from 0)${orIgnored ? ` or ${IGNORE_INDEX}` : ''}.`,
      );
    result[i] = entry;
  }
  return result;
}

function objectOf(path: string, value: JsonValue): Record<string, unknown> {
  const row = value.value;
  if (typeof row !== 'object' || row === null || Array.isArray(row))
    throw at(path, value, `expected a JSON object, not ${kindOf(row)}.`);
  return row as Record<string, unknown>;
}

function at(path: string, { row, line }: JsonValue, message: string): UserError {
  return new UserError(`${path}, line ${line} (row ${row}): ${message}`);
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'object') return 'an object';
  const text = JSON.stringify(value);
  return `the ${typeof value} ${text.length > 40 ? `${text.slice(0, 40)}…` : text}`;
}

function quoteAll(keys: string[]): string {
  return keys.length === 0 ? 'no keys' : keys.map((key) => `"${key}"`).join(', ');
}
