import { createHash } from 'node:crypto';
import { type FileHandle, open, rename } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { readPieces } from '../../files.js';

/** What a manifest says of a file. */
export interface FileDigest {
  /** Name within its directory. */
  file: string;
  bytes: number;
  /** Hexadecimal. */
  sha256: string;
}

/** A new file that is hashed as it is written, and on the disk when close() returns. Errors say its path. */
export class SyncedFile {
  private readonly hash = createHash('sha256');
  private bytes = 0;

  private constructor(
    private readonly path: string,
    private readonly handle: FileHandle,
  ) {}

  static async create(path: string): Promise<SyncedFile> {
    return new SyncedFile(path, await open(path, 'w'));
  }

  /** `chunk` may be changed again once this returns. */
  async append(chunk: Uint8Array): Promise<void> {
    const writing = this.write(chunk);
    // Hashing takes about as long as writing, on another thread.
    this.hash.update(chunk);
    await naming(this.path, writing);
    this.bytes += chunk.length;
  }

  private async write(chunk: Uint8Array): Promise<void> {
    for (let done = 0; done < chunk.length; )
      done += (await this.handle.write(chunk, done, chunk.length - done)).bytesWritten;
  }

  async close(): Promise<FileDigest> {
    await naming(this.path, syncAndClose(this.handle));
    return { file: basename(this.path), bytes: this.bytes, sha256: this.hash.digest('hex') };
  }

  /** Closes a file that will not be finished. */
  async abandon(): Promise<void> {
    await this.handle.close();
  }
}

/** Writes a file with what `fill` appends to it. */
export async function writeSynced(
  path: string,
  fill: (file: SyncedFile) => Promise<void>,
): Promise<FileDigest> {
  const file = await SyncedFile.create(path);
  try {
    await fill(file);
  } catch (error) {
    // What went wrong first is what is told.
    await file.abandon().catch(() => {});
    throw error;
  }
  return file.close();
}

/** Writes `value` as indented JSON. */
export function writeJson(path: string, value: unknown): Promise<FileDigest> {
  return writeSynced(path, (file) => file.append(Buffer.from(`${JSON.stringify(value, null, 2)}\n`)));
}

/** Puts a text in the place of a file's: whoever looks, at any time and after a power loss, finds the old or the new. */
export async function replaceSynced(path: string, text: string): Promise<void> {
  const aside = `${path}.tmp`;
  await writeSynced(aside, (file) => file.append(Buffer.from(text)));
  await rename(aside, path);
  await sync(dirname(path));
}

/** The digest of a file on the disk. */
export async function digestOf(path: string): Promise<FileDigest> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of readPieces(path, 2 ** 20)) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { file: basename(path), bytes, sha256: hash.digest('hex') };
}

/** Puts a file, or the names in a directory, on the disk. */
export async function sync(path: string): Promise<void> {
  await naming(path, syncAndClose(await open(path, 'r')));
}

async function syncAndClose(handle: FileHandle): Promise<void> {
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A failed call on an open file does not say which one it is; its error does after this. */
async function naming<T>(path: string, call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    (error as NodeJS.ErrnoException).path ??= path;
    throw error;
  }
}
