import { addon, type DeviceName } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';

// Causal attention over documents that lie end to end, with grouped key/value heads:
// out = softmax(q·kᵀ/√D + mask)·v, each document for itself.

/** The documents of a batch, as attention sees them. */
export interface Documents {
  /** int32 [count + 1]: where each document starts, and the total. */
  offsets: NativeTensor;
  count: number;
  /** Tokens of the longest one. */
  longest: number;
  /** (query, key) pairs of one head, Σ n(n+1)/2: what the FLOPs are counted by. */
  pairs: number;
}

/** Documents of these lengths, lying end to end; their offsets are to be disposed by the caller. */
export function documentsOf(lengths: readonly number[], device: DeviceName): Documents {
  const offsets = new Int32Array(lengths.length + 1);
  lengths.forEach((n, j) => {
    offsets[j + 1] = offsets[j] + n;
  });
  return {
    offsets: NativeTensor.from(device, offsets),
    count: lengths.length,
    longest: Math.max(0, ...lengths),
    pairs: causalPairs(lengths),
  };
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
  { heads, kvHeads, headDim }: Heads,
): { out: NativeTensor; lse: NativeTensor } {
  const [tokens, stride] = qkv.shape;
  if (stride !== (heads + 2 * kvHeads) * headDim)
    throw new Error(
      `attention: rows of qkv have ${stride} elements, not (${heads} + 2·${kvHeads})·${headDim}`,
    );
  if (tokens === 0) return { out: qkv.like([0, heads * headDim]), lse: qkv.like([heads, 0], 'float32') };
  const k = qkv.view([qkv.size - heads * headDim], heads * headDim);
  const v = qkv.view([qkv.size - (heads + kvHeads) * headDim], (heads + kvHeads) * headDim);
  const out = qkv.like([tokens, heads * headDim]);
  const lse = qkv.like([heads, tokens], 'float32');
  addon.ops.attention_forward({
    out,
    lse,
    q: qkv,
    k,
    v,
    q_offsets: documents.offsets,
    k_offsets: documents.offsets,
    documents: documents.count,
    heads,
    kv_heads: kvHeads,
    head_dim: headDim,
    q_stride: stride,
    kv_stride: stride,
    tokens,
    max_q: documents.longest,
    max_k: documents.longest,
    pairs: documents.pairs,
    scale: headDim ** -0.5,
  });
  k.dispose();
  v.dispose();
  return { out, lse };
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

/**
 * out [queries, H·D] for the newest tokens of one document against its cache: q [queries, H·D], cache
 * [keys, 2·KV·D] (rows k | v), the last query being the last key's token.
 */
export function cachedAttention(
  q: NativeTensor,
  cache: NativeTensor,
  offsets: { queries: NativeTensor; keys: NativeTensor },
  { heads, kvHeads, headDim }: Heads,
): NativeTensor {
  const queries = q.shape[0];
  const keys = cache.shape[0];
  const v = cache.view([cache.size - kvHeads * headDim], kvHeads * headDim);
  const out = q.like();
  addon.ops.attention_forward({
    out,
    q,
    k: cache,
    v,
    q_offsets: offsets.queries,
    k_offsets: offsets.keys,
    documents: 1,
    heads,
    kv_heads: kvHeads,
    head_dim: headDim,
    q_stride: heads * headDim,
    kv_stride: 2 * kvHeads * headDim,
    tokens: queries,
    max_q: queries,
    max_k: keys,
    pairs: (queries * (2 * keys - queries + 1)) / 2,
    scale: headDim ** -0.5,
  });
  v.dispose();
  return out;
}
