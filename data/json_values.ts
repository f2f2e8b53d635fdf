import { isUtf8 } from 'node:buffer';
import { stat } from 'node:fs/promises';
import { reasonOf, UserError } from '../errors.js';
import { readPieces } from '../files.js';

/** One parsed value of a data file and where it stands. Rows count from 0, lines from 1. */
export interface JsonValue {
  value: unknown;
  row: number;
  line: number;
}

/** The bytes of one value, still unparsed. */
interface Piece {
  bytes: Buffer;
  line: number;
}

/** Cuts a file, given chunk by chunk, into pieces. `finish` says what the last chunk left over. */
interface Splitter {
  push(chunk: Buffer): Piece[];
  finish(): Piece[];
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const NEWLINE = 0x0a;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

// A stretch is also the unit of work handed to a tokenising thread: about 600 Alpaca rows.
const CHUNK_BYTES = 256 * 1024;
// Beyond this a quote is missing somewhere and the rest of the file looks like one string. JSON.parse can take 30 times as
// much.
const MAX_ROW_BYTES = 8 * 1024 * 1024;

/**
 * Reads the values of a JSON array or of a JSON Lines file (told apart by the first byte) in order, in stretches
 * of some hundreds, never holding more of the file than a stretch: files of any size are read.
 *
 * @throws UserError naming file, line and row on bytes that are not such JSON.
 */
export async function* readJsonValues(path: string): AsyncGenerator<JsonValue[]> {
  if ((await fileSize(path)) === 0)
    throw new UserError(`${path} is empty: expected a JSON array of rows, or one row a line.`);
  let splitter: Splitter | undefined;
  let row = 0;
  let atStart = true;
  let leadingLines = 1;
  for await (let chunk of readPieces(path, CHUNK_BYTES)) {
    if (splitter === undefined) {
      if (atStart && chunk.subarray(0, 3).equals(Buffer.from([0xef, 0xbb, 0xbf]))) chunk = chunk.subarray(3);
      atStart = false;
      let first = 0;
      while (first < chunk.length && isSpace(chunk[first])) if (chunk[first++] === NEWLINE) leadingLines++;
      if (first === chunk.length) continue;
      splitter = splitterFor(path, chunk[first], leadingLines);
      chunk = chunk.subarray(first);
    }
    const values = splitter.push(chunk).map((piece) => parse(path, piece, row++));
    if (values.length > 0) yield values;
  }
  if (splitter === undefined) throw new UserError(`${path} holds nothing but white space: expected rows.`);
  const values = splitter.finish().map((piece) => parse(path, piece, row++));
  if (values.length > 0) yield values;
}

async function fileSize(path: string): Promise<number> {
  try {
    const stats = await stat(path);
    if (stats.isDirectory())
      throw new UserError(`Data file ${path} is a directory: name a .json or .jsonl file.`);
    if (!stats.isFile())
      throw new UserError(
        `Data file ${path} is not a regular file, which can be read twice: store its rows first.`,
      );
    return stats.size;
  } catch (error) {
    if (error instanceof UserError) throw error;
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      throw new UserError(`Data file ${path} does not exist.`);
    throw new UserError(`Data file ${path} cannot be read: ${reasonOf(error)}.`);
  }
}

function splitterFor(path: string, first: number, line: number): Splitter {
  if (first === OPEN_ARRAY) return arraySplitter(path, line);
  if (first === OPEN_OBJECT) return lineSplitter(path, line);
  throw new UserError(
    `${path}, line ${line}: expected a JSON array ("[") or one JSON object a line ("{"), found ` +
      `${first > 0x20 && first < 0x7f ? `"${String.fromCharCode(first)}"` : `byte 0x${first.toString(16)}`}. ` +
      'CSV, Parquet and compressed files must be converted first.',
  );
}

/** The bytes of the value being read, over several chunks if need be. */
function collector(path: string) {
  let parts: Buffer[] = [];
  let length = 0;
  return {
    add(bytes: Buffer, line: number): void {
      if (bytes.length === 0) return;
      parts.push(bytes);
      length += bytes.length;
      if (length > MAX_ROW_BYTES)
        throw new UserError(
          `${path}, line ${line}: a row of more than ${MAX_ROW_BYTES / 2 ** 20} MiB starts here. ` +
            'Probably a quote or a bracket is missing.',
        );
    },
    take(): Buffer {
      const bytes = parts.length === 1 ? parts[0] : Buffer.concat(parts, length);
      parts = [];
      length = 0;
      return bytes;
    },
  };
}

function lineSplitter(path: string, firstLine: number): Splitter {
  const pending = collector(path);
  let line = firstLine;
  const take = (pieces: Piece[]): void => {
    const bytes = pending.take();
    if (!bytes.every(isSpace)) pieces.push({ bytes, line });
  };
  return {
    push(chunk) {
      const pieces: Piece[] = [];
      let start = 0;
      for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
        pending.add(chunk.subarray(start, end), line);
        take(pieces);
        line++;
        start = end + 1;
      }
      pending.add(chunk.subarray(start), line);
      return pieces;
    },
    finish() {
      const pieces: Piece[] = [];
      take(pieces);
      return pieces;
    },
  };
}

/** Follows strings and brackets only; whether a piece is good JSON is for JSON.parse to say. */
function arraySplitter(path: string, firstLine: number): Splitter {
  const pending = collector(path);
  let line = firstLine;
  let pieceLine = firstLine;
  let count = 0;
  let depth = 0;
  let inString = false;
  let escaped = false;
  let closed = false;

  /** What is pending, and the line its first character stands on. */
  const takePending = (): Piece & { blank: boolean } => {
    const bytes = pending.take();
    let first = 0;
    while (first < bytes.length && isSpace(bytes[first])) if (bytes[first++] === NEWLINE) pieceLine++;
    const piece = { bytes, line: pieceLine, blank: first === bytes.length };
    pieceLine = line;
    return piece;
  };
  const take = (pieces: Piece[], last: boolean): void => {
    const piece = takePending();
    if (!piece.blank) pieces.push(piece);
    else if (!last || count > 0)
      throw new UserError(
        `${path}, line ${piece.line}: expected a row ${last ? 'after' : 'before'} the comma.`,
      );
    count++;
  };

  return {
    push(chunk) {
      const pieces: Piece[] = [];
      let start = 0;
      for (let i = 0; i < chunk.length; i++) {
        const byte = chunk[i];
        if (inString) {
          if (escaped) escaped = false;
          else if (byte === BACKSLASH) escaped = true;
          else if (byte === QUOTE) inString = false;
        } else if (byte === NEWLINE) {
          line++;
        } else if (closed) {
          if (!isSpace(byte))
            throw new UserError(
              `${path}, line ${line}: text after the end of the JSON array. ` +
                'A data file is one JSON array, or one JSON object a line.',
            );
        } else if (byte === QUOTE) {
          inString = true;
        } else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) {
          if (depth++ === 0) start = i + 1;
        } else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) {
          if (--depth > 0) continue;
          if (byte === CLOSE_OBJECT)
            throw new UserError(`${path}, line ${line} (row ${count}): "}" without its "{".`);
          pending.add(chunk.subarray(start, i), pieceLine);
          take(pieces, true);
          closed = true;
        } else if (byte === COMMA && depth === 1) {
          pending.add(chunk.subarray(start, i), pieceLine);
          take(pieces, false);
          start = i + 1;
        }
      }
      if (!closed) pending.add(chunk.subarray(start), pieceLine);
      return pieces;
    },
    finish() {
      if (!closed)
        throw new UserError(
          `${path}, line ${takePending().line} (row ${count}): the file ends before this row or the array is closed. ` +
            'It was cut off, or a quote or a bracket is missing.',
        );
      return [];
    },
  };
}

function parse(path: string, piece: Piece, row: number): JsonValue {
  const { bytes, line } = piece;
  if (!isUtf8(bytes)) throw new UserError(`${path}, line ${line} (row ${row}): the text is not UTF-8.`);
  try {
    return { value: JSON.parse(bytes.toString('utf8')), row, line };
  } catch (error) {
    throw new UserError(
      `${path}, line ${line} (row ${row}): bad JSON: ${(error as Error).message}. ` +
        'A data file is one JSON array, or one JSON object a line.',
    );
  }
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === NEWLINE || byte === 0x0d || byte === 0x09;
}
