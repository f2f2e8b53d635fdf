import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { UserError } from '../errors.js';
import { type JsonValue, readJsonValues } from './json_values.js';

const folder = mkdtempSync(join(tmpdir(), 'tstrain-json-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(content: string | Buffer): string {
  const path = join(folder, 'rows.json');
  writeFileSync(path, content);
  return path;
}

async function read(content: string | Buffer): Promise<JsonValue[]> {
  const all: JsonValue[] = [];
  for await (const values of readJsonValues(file(content))) all.push(...values);
  return all;
}

async function failure(content: string | Buffer): Promise<string> {
  const error = await read(content).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(UserError);
  return (error as Error).message.replace(folder, 'DIR');
}

describe('readJsonValues', () => {
  it('reads an array, saying the line each value starts on', async () => {
    expect(await read('\ufeff\n[\n {"a": "],[{\\"\\\\"},\n\n {"b": [1,\n2]}, 3 ]\n')).toEqual([
      { value: { a: '],[{"\\' }, row: 0, line: 3 },
      { value: { b: [1, 2] }, row: 1, line: 5 },
      { value: 3, row: 2, line: 6 },
    ]);
  });

  it('reads JSON Lines, with blank lines, CRLF and no last newline', async () => {
    expect(await read('{"a": 1}\r\n\n  \n{"b": "é"}')).toEqual([
      { value: { a: 1 }, row: 0, line: 1 },
      { value: { b: 'é' }, row: 1, line: 4 },
    ]);
  });

  it.each(['array', 'lines'])(
    'reads %s across the stretches of a file, whatever they cut through',
    async (kind) => {
      // Lengths that are prime to the stretch put its borders inside escapes, characters and brackets.
      const rows = Array.from({ length: 9000 }, (_, i) => ({
        i,
        text: `\\"é\u{1f600}[{,${'x'.repeat(i % 211)}`,
      }));
      const content =
        kind === 'array' ? JSON.stringify(rows, null, 1) : rows.map((row) => JSON.stringify(row)).join('\n');
      const values = await read(content);
      expect(values.map(({ value }) => value)).toEqual(rows);
      expect(values.at(-1)).toMatchObject({ row: 8999, line: kind === 'array' ? 2 + 4 * 8999 : 9000 });
    },
  );

  it('reads a row longer than a stretch', async () => {
    const text = 'y'.repeat(700_000);
    expect((await read(`[{"a": "${text}"}]`))[0].value).toEqual({ a: text });
  });

  it('an empty array has no values', async () => {
    expect(await read('[ \n]')).toEqual([]);
  });

  it('names the file, line and row of what is wrong', async () => {
    expect(await failure('')).toBe(
      'DIR/rows.json is empty: expected a JSON array of rows, or one row a line.',
    );
    expect(await failure(' \n ')).toBe('DIR/rows.json holds nothing but white space: expected rows.');
    expect(await failure('instruction,output\n')).toBe(
      'DIR/rows.json, line 1: expected a JSON array ("[") or one JSON object a line ("{"), found "i". ' +
        'CSV, Parquet and compressed files must be converted first.',
    );
    expect(await failure(Buffer.from([0x1f, 0x8b, 8]))).toContain('found byte 0x1f');
    expect(await failure('[{"a": 1},\n {"a": }]')).toMatch(
      /^DIR\/rows.json, line 2 \(row 1\): bad JSON: Unexpected/,
    );
    expect(await failure('{"a": 1}\n{"a": 2')).toMatch(/^DIR\/rows.json, line 2 \(row 1\): bad JSON: /);
    expect(await failure('{\n "a": 1\n}')).toMatch(
      /^DIR\/rows.json, line 1 \(row 0\): bad JSON: .* A data file is one JSON array, or one JSON object a line\.$/s,
    );
    expect(await failure('[{"a": 1},\n{"a": 2}\n')).toBe(
      'DIR/rows.json, line 2 (row 1): the file ends before this row or the array is closed. ' +
        'It was cut off, or a quote or a bracket is missing.',
    );
    expect(await failure('[{"a": "1},\n{"a": 2}]')).toMatch(/^DIR\/rows.json, line 1 \(row 0\): /);
    expect(await failure('[{"a": 1},\n]')).toBe('DIR/rows.json, line 2: expected a row after the comma.');
    expect(await failure('[,{"a": 1}]')).toBe('DIR/rows.json, line 1: expected a row before the comma.');
    expect(await failure('[{"a": 1}}')).toBe('DIR/rows.json, line 1 (row 0): "}" without its "{".');
    expect(await failure('[1]\n[2]')).toBe(
      'DIR/rows.json, line 2: text after the end of the JSON array. ' +
        'A data file is one JSON array, or one JSON object a line.',
    );
    expect(await failure(Buffer.from('{"a": "\xff"}', 'latin1'))).toBe(
      'DIR/rows.json, line 1 (row 0): the text is not UTF-8.',
    );
    expect(await failure(Buffer.from(`{"a": "${'z'.repeat(8 * 2 ** 20)}"}`))).toBe(
      'DIR/rows.json, line 1: a row of more than 8 MiB starts here. Probably a quote or a bracket is missing.',
    );
  });

  it('names a missing file and a directory', async () => {
    const all = async (path: string) => {
      for await (const _ of readJsonValues(path));
    };
    await expect(all('nowhere.json')).rejects.toThrow(
      new UserError('Data file nowhere.json does not exist.'),
    );
    await expect(all(folder)).rejects.toThrow(/is a directory: name a .json or .jsonl file/);
  });
});
