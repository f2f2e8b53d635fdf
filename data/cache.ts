import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { readPieces } from '../files.js';
import type { EncodedRows } from './encode.js';
import type { KeyCounts } from './sources.js';

// Raise this when the same file and tokenizer would give other ids or labels, or the layout of the file changes.
const FORMAT_VERSION = 2;
// One call of crypto or of the file system takes less than 2 GiB.
const PART_BYTES = 2 ** 28;

/** A file that nothing has used for so long is removed when another is written. */
const KEPT_MS = 30 * 24 * 3600_000;
/** A file that is being written changes all the time; one that has not for so long is what a killed process left. */
const WRITING_MS = 3600_000;

/**
 * Where tokenised files are kept: `$XDG_CACHE_HOME/tstrain`, by default `~/.cache/tstrain`; nowhere for a user without
 * a home.
 */
export function defaultCacheDirectory(): string | undefined {
  try {
    return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'tstrain');
  } catch {
    return undefined;
  }
}

/** SHA-256 of a file's bytes, in hexadecimal. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of readPieces(path, 2 ** 20)) hash.update(chunk);
  return hash.digest('hex');
}

/** The cache file of a data file's content under a tokenizer and a length limit. */
export function cacheFile(
  directory: string,
  identity: { fileHash: string; tokenizerHash: string | undefined; modelMaxLength: number },
): string {
  const { fileHash, tokenizerHash = null, modelMaxLength } = identity;
  const key = JSON.stringify([FORMAT_VERSION, fileHash, tokenizerHash, String(modelMaxLength)]);
  return join(directory, 'tokens', `${createHash('sha256').update(key).digest('hex').slice(0, 32)}.bin`);
}

interface Header {
  rows: number;
  tokens: number;
  emptyOutputs: number[];
}

/**
 * SHA-256 of encoded rows: the identity of a data set's content. What was not read of them does not count. The event
 * loop runs in between.
 */
export async function hashRows(encoded: EncodedRows): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify(headerOf(encoded)));
  for (const array of arraysOf(encoded))
    for (const part of partsOf(array)) {
      hash.update(part);
      await new Promise(setImmediate);
    }
  return hash.digest('hex');
}

/** The checksum of a cache file: of its rows by their hash, and of the rest. */
function checksumOf(hash: string, unreadKeys: KeyCounts): string {
  return createHash('sha256')
    .update(hash)
    .update(JSON.stringify([...unreadKeys]))
    .digest('hex');
}

/**
 * Keeps encoded rows, whose hash is `hash`: a line of JSON with sizes and checksum, then the arrays as little-endian
 * int32. Written to a name of its own and renamed, so that a reader finds a whole file or none. What nobody uses any
 * more is removed.
 */
export async function writeCache(file: string, encoded: EncodedRows, hash: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  const aside = `${file}.${process.pid}.tmp`;
  try {
    const handle = await open(aside, 'w');
    try {
      const { unreadKeys } = encoded;
      const rest = { unreadKeys: [...unreadKeys], checksum: checksumOf(hash, unreadKeys) };
      await handle.write(`${JSON.stringify({ ...headerOf(encoded), ...rest })}\n`);
      for (const array of arraysOf(encoded)) for (const part of partsOf(array)) await writeAll(handle, part);
    } finally {
      await handle.close();
    }
    await rename(aside, file);
  } catch (error) {
    await rm(aside, { force: true }).catch(() => {});
    throw error;
  }
  // What cannot be removed costs room only.
  await removeUnused(dirname(file)).catch(() => {});
}

/** Removes what was not used for long, and what killed processes have left half written. */
async function removeUnused(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const kept = /\.bin$/.test(name) ? KEPT_MS : /\.bin\.\d+\.tmp$/.test(name) ? WRITING_MS : undefined;
    if (kept === undefined) continue;
    const path = join(directory, name);
    if ((await stat(path)).mtimeMs < Date.now() - kept) await rm(path, { force: true });
  }
}

/** Encoded rows from the cache with their hash, once the checksum has been verified; or why there are none. */
export async function readCache(
  file: string,
): Promise<{ encoded: EncodedRows; hash: string } | 'absent' | 'damaged'> {
  let handle: FileHandle;
  try {
    // A FIFO of that name would be waited for.
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'absent' : 'damaged';
  }
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) return 'damaged';
    const { header, unreadKeys, checksum, end } = await readHeader(handle);
    if (stats.size !== end + 4 * (2 * header.tokens + 2 * header.rows)) return 'damaged';
    const encoded: EncodedRows = {
      ids: new Int32Array(header.tokens),
      labels: new Int32Array(header.tokens),
      lengths: new Int32Array(header.rows),
      truncated: new Int32Array(header.rows),
      emptyOutputs: header.emptyOutputs,
      unreadKeys: new Map(unreadKeys),
    };
    let position = end;
    for (const array of arraysOf(encoded))
      for (const part of partsOf(array)) {
        await readAll(handle, part, position);
        position += part.length;
      }
    const hash = await hashRows(encoded);
    if (checksumOf(hash, encoded.unreadKeys) !== checksum) return 'damaged';
    // When it was last used; where that cannot be noted, it goes early.
    await utimes(file, stats.atime, new Date()).catch(() => {});
    return { encoded, hash };
  } catch {
    return 'damaged';
  } finally {
    await handle.close();
  }
}

function headerOf({ lengths, ids, emptyOutputs }: EncodedRows): Header {
  return { rows: lengths.length, tokens: ids.length, emptyOutputs };
}

function arraysOf({ lengths, truncated, ids, labels }: EncodedRows): Int32Array[] {
  return [lengths, truncated, ids, labels];
}

interface Rest {
  unreadKeys: [string, number][];
  checksum: string;
}

/** The largest part of one are the keys of rows that are not read, a line each. */
const MOST_HEADER_BYTES = 8 * 2 ** 20;

async function readHeader(handle: FileHandle): Promise<{ header: Header; end: number } & Rest> {
  const chunks: Buffer[] = [];
  for (let length = 0; length < MOST_HEADER_BYTES; ) {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(2 ** 16), 0, 2 ** 16, length);
    if (bytesRead === 0) throw new Error('no header');
    const newline = buffer.subarray(0, bytesRead).indexOf(0x0a);
    chunks.push(buffer.subarray(0, newline < 0 ? bytesRead : newline));
    length += chunks[chunks.length - 1].length;
    if (newline < 0) continue;
    const { unreadKeys, checksum, ...header } = JSON.parse(Buffer.concat(chunks).toString()) as Header & Rest;
    return { header, unreadKeys, checksum, end: length + 1 };
  }
  throw new Error('no end of the header');
}

function* partsOf(array: Int32Array): Generator<Uint8Array> {
  for (let start = 0; start < array.byteLength; start += PART_BYTES)
    yield new Uint8Array(
      array.buffer,
      array.byteOffset + start,
      Math.min(PART_BYTES, array.byteLength - start),
    );
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done)).bytesWritten;
}

async function readAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await handle.read(bytes, done, bytes.length - done, position + done);
    if (bytesRead === 0) throw new Error('the file ends early');
    done += bytesRead;
  }
}
