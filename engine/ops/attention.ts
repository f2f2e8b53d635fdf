import { addon, type DeviceName } from '../device/addon.js';
import { NativeTensor, release } from '../device/native_tensor.js';

// Causal attention of documents that lie end to end, with grouped key/value heads:
// out = softmax(q·kᵀ/√D + mask)·v, each document for itself.

/** The documents of a batch, as attention sees them. */
export interface Documents extends DocumentSizes {
  /** int32 [count + 1]: where each document's tokens start, and the total. */
  offsets: NativeTensor;
  /**
   * The keys of document j are rows keyStarts[j] … keyStarts[j] + keyLengths[j] − 1, of the tokens themselves or of a
   * cache; the last is that of its last token. Both int32 [count].
   */
  keyStarts: NativeTensor;
  keyLengths: NativeTensor;
}

/** What the host knows of documents: no op looks at offsets, starts and lengths to check them. */
interface DocumentSizes {
  count: number;
  /** Of all documents together. */
  tokens: number;
  /** Tokens of the longest one. */
  longest: number;
  longestKeys: number;
  /** Rows of keys that there must be. */
  keyRows: number;
  /** (query, key) pairs of one head: what the FLOPs are counted by. */
  pairs: number;
}

/** Documents on the host: `arrays` (offsets, key starts, key lengths) go up, with other arrays or alone. */
export interface HostDocuments extends DocumentSizes {
  arrays: readonly Int32Array[];
}

/** The newest tokens of a text, and the rows that hold the keys of all of it, these tokens included. */
export interface Span {
  tokens: number;
  keys: { start: number; length: number };
}

/** Documents that lie end to end, whose keys stand anywhere. @throws Error when one has more tokens than keys */
export function spans(documents: readonly Span[]): HostDocuments {
  const offsets = new Int32Array(documents.length + 1);
  documents.forEach(({ tokens, keys }, j) => {
    if (tokens < 0 || keys.start < 0 || keys.length < tokens)
      throw new Error(
        `attention: document ${j} has ${tokens} tokens, and ${keys.length} keys from row ${keys.start} on`,
      );
    offsets[j + 1] = offsets[j] + tokens;
  });
  return {
    arrays: [
      offsets,
      Int32Array.from(documents, ({ keys }) => keys.start),
      Int32Array.from(documents, ({ keys }) => keys.length),
    ],
    count: documents.length,
    tokens: offsets[documents.length],
    longest: Math.max(0, ...documents.map(({ tokens }) => tokens)),
    longestKeys: Math.max(0, ...documents.map(({ keys }) => keys.length)),
    keyRows: Math.max(0, ...documents.map(({ keys }) => keys.start + keys.length)),
    pairs: documents.reduce((sum, { tokens: n, keys }) => sum + (n * (2 * keys.length - n + 1)) / 2, 0),
  };
}

/** Documents of these lengths whose keys are their own tokens. */
export function wholeDocuments(lengths: readonly number[]): HostDocuments {
  let start = 0;
  return spans(
    lengths.map((tokens) => {
      const keys = { start, length: tokens };
      start += tokens;
      return { tokens, keys };
    }),
  );
}

/** The documents whose arrays are on a device as these tensors; to be disposed with {@link disposeDocuments}. */
export function documentsFrom(
  { arrays: _, ...sizes }: HostDocuments,
  [offsets, keyStarts, keyLengths]: readonly NativeTensor[],
): Documents {
  return { ...sizes, offsets, keyStarts, keyLengths };
}

/** wholeDocuments() on a device. */
export function documentsOf(lengths: readonly number[], device: DeviceName): Documents {
  const host = wholeDocuments(lengths);
  return documentsFrom(host, NativeTensor.stage(device, host.arrays));
}

export function documentTensors({ offsets, keyStarts, keyLengths }: Documents): NativeTensor[] {
  return [offsets, keyStarts, keyLengths];
}

export function disposeDocuments(documents: Documents): void {
  release(...documentTensors(documents));
}

/** (query, key) pairs of one head over documents of these lengths. */
export function causalPairs(lengths: readonly number[]): number {
  return lengths.reduce((sum, n) => sum + (n * (n + 1)) / 2, 0);
}

export interface Heads {
  heads: number;
  kvHeads: number;
  headDim: number;
}

/**
 * out [tokens, H·D] and the row log-sum-exp float32 [H, tokens] of qkv [tokens, (H + 2·KV)·D], whose rows are
 * q | k | v.
 */
export function attention(
  qkv: NativeTensor,
  documents: Documents,
  heads: Heads,
): { out: NativeTensor; lse: NativeTensor } {
  const qWidth = heads.heads * heads.headDim;
  checkRows(qkv, heads);
  const tokens = qkv.shape[0];
  const out = qkv.like([tokens, qWidth]);
  const lse = qkv.like([heads.heads, tokens], 'float32');
  if (tokens > 0) attentionForward(out, lse, qkv, { rows: qkv, column: qWidth }, documents, heads);
  return { out, lse };
}

/**
 * out [tokens, H·D] for tokens whose keys and values are in a cache: of qkv [tokens, (H + 2·KV)·D] only q is read, the
 * cache [rows, 2·KV·D] has rows k | v.
 */
export function cachedAttention(
  qkv: NativeTensor,
  cache: NativeTensor,
  documents: Documents,
  heads: Heads,
): NativeTensor {
  checkRows(qkv, heads);
  const out = qkv.like([qkv.shape[0], heads.heads * heads.headDim]);
  attentionForward(out, undefined, qkv, { rows: cache, column: 0 }, documents, heads);
  return out;
}

function checkRows(qkv: NativeTensor, { heads, kvHeads, headDim }: Heads): void {
  if (qkv.shape[1] !== (heads + 2 * kvHeads) * headDim)
    throw new Error(
      `attention: rows of qkv have ${qkv.shape[1]} elements, not (${heads} + 2·${kvHeads})·${headDim}`,
    );
}

/** k | v stand from `column` on in the rows of `kv`. */
function attentionForward(
  out: NativeTensor,
  lse: NativeTensor | undefined,
  qkv: NativeTensor,
  kv: { rows: NativeTensor; column: number },
  documents: Documents,
  { heads, kvHeads, headDim }: Heads,
): void {
  const [tokens, stride] = qkv.shape;
  const [keyRows, kvStride] = kv.rows.shape;
  if (documents.tokens !== tokens || documents.keyRows > keyRows)
    throw new Error(
      `attention: documents of ${documents.tokens} tokens, with keys in ${documents.keyRows} rows, do not make up ` +
        `the ${tokens} rows of qkv, and ${keyRows} of keys`,
    );
  const from = (column: number) => kv.rows.view([kv.rows.size - column], column);
  const k = from(kv.column);
  const v = from(kv.column + kvHeads * headDim);
  addon.ops.attention_forward({
    out,
    lse,
    q: qkv,
    k,
    v,
    q_offsets: documents.offsets,
    k_starts: documents.keyStarts,
    k_lengths: documents.keyLengths,
    documents: documents.count,
    heads,
    kv_heads: kvHeads,
    head_dim: headDim,
    q_stride: stride,
    kv_stride: kvStride,
    tokens,
    max_q: documents.longest,
    max_k: documents.longestKeys,
    pairs: documents.pairs,
    scale: headDim ** -0.5,
  });
  release(k, v);
}

/** dqkv, shaped as qkv, of dout [tokens, H·D]. */
export function attentionBackward(
  dout: NativeTensor,
  { out, lse, qkv }: { out: NativeTensor; lse: NativeTensor; qkv: NativeTensor },
  documents: Documents,
  { heads, kvHeads, headDim }: Heads,
): NativeTensor {
  const dqkv = qkv.like();
  addon.ops.attention_backward({
    dqkv,
    dout,
    out,
    lse,
    qkv,
    offsets: documents.offsets,
    documents: documents.count,
    heads,
    kv_heads: kvHeads,
    head_dim: headDim,
    tokens: qkv.shape[0],
    max_tokens: documents.longest,
    pairs: documents.pairs,
    scale: headDim ** -0.5,
  });
  return dqkv;
}
