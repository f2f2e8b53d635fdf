import { addon, type DeviceName } from '../device/addon.js';
import { NativeTensor, release } from '../device/native_tensor.js';
import { addToColumns } from './columns.js';
import { crossEntropy } from './cross_entropy.js';
import { fill } from './elementwise.js';
import { linearBackwardInput, linearBackwardWeight } from './linear.js';

// The language-model head and its loss in one op: loss[i] = logsumexp(h[i]·Wᵀ) − (h[i]·Wᵀ)[target[i]].
//
// Rows are taken in chunks, so that the logits of a whole batch (tokens × vocabulary) never exist.
//
// W may have rows behind those of the `vocab` words, all zeros: their logits are −∞, which no loss sees, and so they get
// no gradient.

/** Bytes of one chunk of float32 logits: small enough not to count beside the activations. */
const CHUNK_BYTES = 64 << 20;

/**
 * Rows of a chunk, for a vocabulary of that size: whole steps of rows, so that few shapes of products come up; and not so
 * few that the time goes into reading and writing dW, once a chunk, whatever memory a large vocabulary then takes.
 */
export function chunkRows(device: DeviceName, rows: number, vocab: number): number {
  const rowStep = addon.rowStep(device);
  const fit = Math.max(1, Math.floor(CHUNK_BYTES / (4 * vocab * rowStep))) * rowStep;
  return Math.min(rows, Math.max(fit, addon.gradientRows(device)));
}

/** The loss of each row, float32 [rows], for h [rows, dim], w [≥ vocab, dim], targets int32 [rows]. */
export function linearCrossEntropy(
  h: NativeTensor,
  w: NativeTensor,
  targets: NativeTensor,
  vocab = w.shape[0],
): NativeTensor {
  const loss = h.like([h.shape[0]], 'float32');
  forEachChunk(h, w, vocab, targets, [loss], ({ logits }, targetRows, [lossRows]) => {
    crossEntropy(lossRows, logits, targetRows);
  });
  return loss;
}

/**
 * Loss and gradients in one pass, for weights known beforehand: the loss of each row (unweighted), and the
 * gradients of Σ weights[i]·loss[i]: dh is returned, dw (of w's shape) is added to, or written over where it does not
 * accumulate. `into` receives the losses instead of a new arena tensor.
 */
export function linearCrossEntropyWithGradient(
  h: NativeTensor,
  w: NativeTensor,
  targets: NativeTensor,
  weights: NativeTensor,
  dw: NativeTensor | undefined,
  {
    vocab = w.shape[0],
    accumulate = true,
    into,
  }: { vocab?: number; accumulate?: boolean; into?: NativeTensor } = {},
): { loss: NativeTensor; dh: NativeTensor } {
  const loss = into ?? h.like([h.shape[0]], 'float32');
  const dh = h.like();
  forEachChunk(
    h,
    w,
    vocab,
    targets,
    [loss, weights, dh],
    ({ hidden, logits, isFirst }, targetRows, parts) => {
      const [lossRows, weightRows, dhRows] = parts;
      const dlogits = h.dtype === 'float32' ? logits : logits.like(logits.shape, h.dtype);
      crossEntropy(lossRows, logits, targetRows, { weights: weightRows, dlogits });
      linearBackwardInput(dlogits, w, dhRows);
      if (dw) linearBackwardWeight(dw, dlogits, hidden, { accumulate: accumulate || !isFirst });
      if (dlogits !== logits) dlogits.dispose();
    },
  );
  return { loss, dh };
}

interface Chunk {
  hidden: NativeTensor;
  logits: NativeTensor;
  isFirst: boolean;
}

/** Calls `body` with the logits of each chunk of rows, and with the same rows of `targets` and of each tensor of `split`. */
function forEachChunk(
  h: NativeTensor,
  w: NativeTensor,
  vocab: number,
  targets: NativeTensor,
  split: NativeTensor[],
  body: (chunk: Chunk, targets: NativeTensor, parts: NativeTensor[]) => void,
): void {
  const [total, dim] = h.shape;
  const [words] = w.shape;
  if (h.shape.length !== 2 || w.shape.length !== 2 || w.shape[1] !== dim || targets.size !== total)
    throw new Error(
      `linearCrossEntropy: h [${h.shape}] and w [${w.shape}] must be [rows, dim] and [vocab, dim], ` +
        `and targets [${targets.shape}] one for each row`,
    );
  const most = chunkRows(h.device, total, words);
  const nothing = words > vocab ? h.like([words - vocab], 'float32') : undefined;
  if (nothing) fill(nothing, Number.NEGATIVE_INFINITY);
  for (let start = 0; start < total; start += most) {
    const rows = Math.min(most, total - start);
    const hidden = h.view([rows, dim], start * dim);
    const logits = NativeTensor.matrix(h.device, 'float32', [rows, words], h.dtype);
    addon.ops.gemm({
      c: logits,
      a: hidden,
      b: w,
      m: rows,
      n: words,
      k: dim,
      trans_a: false,
      trans_b: true,
    });
    if (nothing) addToColumns(logits, nothing, vocab);
    const parts = split.map((t) => {
      const width = t.size / total;
      return t.view(width === 1 ? [rows] : [rows, width], start * width);
    });
    const targetRows = targets.view([rows], start);
    body({ hidden, logits, isFirst: start === 0 }, targetRows, parts);
    release(targetRows, ...parts, logits, hidden);
  }
  nothing?.dispose();
}
