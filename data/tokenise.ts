import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { Definition, Tokenizer } from '../tokenizer/index.js';
import { type EncodedRows, encodeRows, eosOf, joinEncoded } from './encode.js';
import { type RowBatch, readRows } from './sources.js';

export interface TokeniseOptions {
  path: string;
  /** Needed for Alpaca rows. */
  tokenizer: Tokenizer | undefined;
  modelMaxLength: number;
  threads: number;
}

/** What a tokenising thread is started with. */
export interface EncodeWorkerData {
  directory: string;
  definition: Definition;
  modelMaxLength: number;
}

type Encode = (batch: RowBatch) => Promise<EncodedRows>;

// Only the compiled file can be started as a thread. Run from TypeScript sources (tests, development) it is not
// there, and rows are encoded in this thread by the same function; `threads` in the result says which it was.
const WORKER = fileURLToPath(new URL('./encode_worker.js', import.meta.url));
// A thread takes about a second of work to load its tokenizer and to learn the common words; less text than this is
// encoded sooner without (a thread encodes some 8 MB a second).
const MIN_WORKER_BYTES = 12 * 2 ** 20;

/**
 * Encodes all rows of a data file. Pre-tokenised rows and small files are encoded in this thread, others by
 * `threads` threads, this one among them. The result is the same either way.
 *
 * @returns the rows, and the number of threads that encoded them
 * @throws UserError as readRows and encodeAlpacaRow do
 */
export async function tokeniseFile(
  options: TokeniseOptions,
): Promise<{ encoded: EncodedRows; threads: number }> {
  const { path, tokenizer, modelMaxLength } = options;
  const rows = readRows(path);
  const parts: { firstRow: number; encoded: EncodedRows }[] = [];

  const drain = async (encode: Encode): Promise<void> => {
    for (let next = await rows.next(); !next.done; next = await rows.next()) {
      const { firstRow } = next.value;
      parts.push({ firstRow, encoded: await encode(next.value) });
    }
  };

  const here: Encode = async (batch) => {
    // What workers and signals have to say is heard between two batches.
    await new Promise(setImmediate);
    return encodeRows(batch, tokenizer, modelMaxLength);
  };

  let threads = 1;
  if (tokenizer !== undefined) eosOf(tokenizer);
  if (
    tokenizer !== undefined &&
    options.threads > 1 &&
    existsSync(WORKER) &&
    (await stat(path)).size >= MIN_WORKER_BYTES
  ) {
    threads = options.threads;
    const data: EncodeWorkerData = {
      directory: tokenizer.directory,
      definition: tokenizer.definition,
      modelMaxLength,
    };
    // This thread has its tokenizer already, and encodes while the others make theirs.
    const workers = Array.from({ length: threads - 1 }, () => startWorker(data));
    try {
      // Two batches a worker: one being encoded while the next is read.
      await Promise.all([drain(here), ...workers.flatMap(({ encode }) => [drain(encode), drain(encode)])]);
    } finally {
      await Promise.all(workers.map(({ stop }) => stop()));
    }
  } else {
    await drain(here);
  }
  parts.sort((a, b) => a.firstRow - b.firstRow);
  return { encoded: joinEncoded(parts.map(({ encoded }) => encoded)), threads };
}

function startWorker(workerData: EncodeWorkerData): { encode: Encode; stop: () => Promise<number> } {
  const worker = new Worker(WORKER, { workerData });
  const waiting: { resolve: (encoded: EncodedRows) => void; reject: (error: Error) => void }[] = [];
  let failure: Error | undefined;
  const fail = (error: Error): void => {
    failure ??= error;
    for (const { reject } of waiting.splice(0)) reject(failure);
  };
  worker.on('message', (encoded: EncodedRows) => waiting.shift()!.resolve(encoded));
  worker.on('error', fail);
  worker.on('exit', (code) => fail(new Error(`a tokenising thread ended with code ${code}`)));
  return {
    encode: (batch) =>
      new Promise((resolve, reject) => {
        if (failure !== undefined) return reject(failure);
        waiting.push({ resolve, reject });
        worker.postMessage(batch);
      }),
    stop: () => worker.terminate(),
  };
}
