import { closeSync, constants, createReadStream, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { reasonOf, UserError } from './errors.js';

/** What to throw for a failed call that reads: a UserError that names the file; any other error as it is. */
export function readError(error: unknown, path: string, missing = 'the file is missing'): unknown {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new UserError(`${path}: ${missing}`);
  const reason = reasonOf(error);
  return reason === undefined ? error : new UserError(`${path}: cannot be read: ${reason}`, { cause: error });
}

/** Whether there is something of that name. @throws UserError when that cannot be seen */
export function exists(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return false;
    throw readError(error, path);
  }
}

/**
 * Opens a regular file to read it, to be closed by the caller.
 * @param missing what is said of a file that is not there
 * @throws UserError naming the file: missing, something else than a file, or why it cannot be opened
 */
export function openRegular(path: string, missing?: string): number {
  let fd: number;
  try {
    // A FIFO would be waited for, until somebody writes into it.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw readError(error, path, missing);
  }
  try {
    const stats = fstatSync(fd);
    if (stats.isFile()) return fd;
    const found = stats.isDirectory() ? 'a directory' : stats.isFIFO() ? 'a FIFO' : 'a device';
    throw new UserError(`${path}: expected a regular file, this is ${found}`);
  } catch (error) {
    closeSync(fd);
    throw readError(error, path);
  }
}

/** Bytes of an open file. */
export function sizeOf(fd: number, path: string): number {
  try {
    return fstatSync(fd).size;
  } catch (error) {
    throw readError(error, path);
  }
}

/** Reads from an open file until `bytes` are full, or the file ends. @returns how many were read */
export function readFully(fd: number, path: string, bytes: Uint8Array, position: number): number {
  try {
    for (let done = 0; done < bytes.length; ) {
      const read = readSync(fd, bytes, done, bytes.length - done, position + done);
      if (read === 0) return done;
      done += read;
    }
    return bytes.length;
  } catch (error) {
    throw readError(error, path);
  }
}

/** What is read whole is small: an index of the largest LLaMA has 0.2 MB. */
const MOST_BYTES = 8 * 2 ** 20;

/**
 * The bytes of a whole regular file.
 * @throws UserError as openRegular does, and for a file of more than `most` bytes
 */
export function readRegular(path: string, missing?: string, most = MOST_BYTES): Buffer {
  const fd = openRegular(path, missing);
  try {
    const size = sizeOf(fd, path);
    if (size > most) throw new UserError(`${path}: has ${size} bytes, expected are at most ${most}`);
    const bytes = Buffer.alloc(size);
    return bytes.subarray(0, readFully(fd, path, bytes, 0));
  } finally {
    closeSync(fd);
  }
}

/**
 * JSON.parse takes some 100 bytes for a value of two, and the check of a schema may take 1.2 kB for one that is wrong:
 * not bytes but values are how far a file can make the process grow. The largest LLaMA's index has 2300.
 */
const MOST_VALUES = 2 ** 18;

/**
 * What a JSON text holds.
 * @throws UserError naming `source`: it is not JSON, or has more than `most` values and keys
 */
export function parseJson(bytes: Uint8Array, source: string, most = MOST_VALUES): unknown {
  const values = countValues(bytes);
  if (values > most)
    throw new UserError(`${source}: has ${values} values and keys, expected are at most ${most}`);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new UserError(`${source}: not valid JSON: ${(error as Error).message}`);
  }
}

const STANDS_BEFORE_ONE = new Uint8Array(256);
for (const sign of ',:[{') STANDS_BEFORE_ONE[sign.charCodeAt(0)] = 1;

/** By what stands before each, at two or three nanoseconds a byte; the same signs within texts count too. */
function countValues(bytes: Uint8Array): number {
  let count = 0;
  for (let i = 0; i < bytes.length; i++) count += STANDS_BEFORE_ONE[bytes[i]];
  return count;
}

/** The bytes of a regular file in pieces of up to `pieceBytes`. @throws UserError as openRegular does */
export async function* readPieces(path: string, pieceBytes: number): AsyncGenerator<Buffer> {
  const fd = openRegular(path);
  try {
    yield* createReadStream(path, { fd, highWaterMark: pieceBytes }) as AsyncIterable<Buffer>;
  } catch (error) {
    throw readError(error, path);
  }
}
