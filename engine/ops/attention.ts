import { addon, type DeviceName } from '../device/addon.js';
import { NativeTensor, release } from '../device/native_tensor.js';

// Causal attention of documents that lie end to end, with grouped key/value heads:
// out = softmax(q·kᵀ/√D + mask)·v, each document for itself.

/** The documents of a batch, as attention sees them. */
export interface Documents {
  /** int32 [count + 1]: where each document's tokens start, and the total. */
  offsets: NativeTensor;
  /** Where their keys and values stand. */
  keys: Keys;
  count: number;
  /** Tokens of the longest one. */
  longest: number;
  /** (query, key) pairs of one head: what the FLOPs are counted by. */
  pairs: number;
}

/**
 * The keys of document j are rows starts[j] … starts[j] + lengths[j] − 1, of the tokens themselves or of a cache; the
 * last is that of its last token. Both int32 [documents].
 */
export interface Keys {
  starts: NativeTensor;
  lengths: NativeTensor;
  longest: number;
}

/** Documents of these lengths whose keys are their own tokens; to be disposed with {@link disposeDocuments}. */
export function documentsOf(lengths: readonly number[], device: DeviceName): Documents {
  const offsets = offsetsOf(lengths, device);
  const longest = Math.max(0, ...lengths);
  return {
    offsets,
    keys: {
      starts: offsets.view([lengths.length]),
      lengths: NativeTensor.from(device, Int32Array.from(lengths)),
      longest,
    },
    count: lengths.length,
    longest,
    pairs: causalPairs(lengths),
  };
}

/** The newest tokens of a text, and the rows of a cache that hold all of it, these tokens included. */
export interface CachedDocument {
  tokens: number;
  keys: { start: number; length: number };
}

/** Documents that go on with texts in a cache; to be disposed with {@link disposeDocuments}. */
export function cachedDocumentsOf(documents: readonly CachedDocument[], device: DeviceName): Documents {
  const counts = documents.map(({ tokens }) => tokens);
  const int32 = (value: (keys: CachedDocument['keys']) => number) =>
    NativeTensor.from(
      device,
      Int32Array.from(documents, ({ keys }) => value(keys)),
    );
  return {
    offsets: offsetsOf(counts, device),
    keys: {
      starts: int32(({ start }) => start),
      lengths: int32(({ length }) => length),
      longest: Math.max(0, ...documents.map(({ keys }) => keys.length)),
    },
    count: documents.length,
    longest: Math.max(0, ...counts),
    pairs: documents.reduce((sum, { tokens: n, keys }) => sum + (n * (2 * keys.length - n + 1)) / 2, 0),
  };
}

export function disposeDocuments({ offsets, keys }: Documents): void {
  release(offsets, keys.starts, keys.lengths);
}

function offsetsOf(lengths: readonly number[], device: DeviceName): NativeTensor {
  const offsets = new Int32Array(lengths.length + 1);
  lengths.forEach((n, j) => {
    offsets[j + 1] = offsets[j] + n;
  });
  return NativeTensor.from(device, offsets);
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
    k_starts: documents.keys.starts,
    k_lengths: documents.keys.lengths,
    documents: documents.count,
    heads,
    kv_heads: kvHeads,
    head_dim: headDim,
    q_stride: qkv.shape[1],
    kv_stride: kv.rows.shape[1],
    tokens: qkv.shape[0],
    max_q: documents.longest,
    max_k: documents.keys.longest,
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
