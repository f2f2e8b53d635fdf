import { parentPort, workerData } from 'node:worker_threads';
import { tokenizerOf } from '../tokenizer/index.js';
import { encodeRows } from './encode.js';
import type { RowBatch } from './sources.js';
import type { EncodeWorkerData } from './tokenise.js';

// The thread that tokenise.ts starts: a batch of rows comes in, the same rows encoded go out, in order.
// Messages that arrive while the tokenizer is made wait in the port.
const { directory, definition, modelMaxLength } = workerData as EncodeWorkerData;
const tokenizer = tokenizerOf(directory, new Map(), definition);
const port = parentPort!;

port.on('message', (batch: RowBatch) => {
  const encoded = encodeRows(batch, tokenizer, modelMaxLength);
  const arrays = [encoded.ids, encoded.labels, encoded.lengths, encoded.truncated];
  port.postMessage(
    encoded,
    arrays.map(({ buffer }) => buffer as ArrayBuffer),
  );
});
