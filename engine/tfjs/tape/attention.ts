import type { Tensor, Tensor2D } from '@tensorflow/tfjs-core';
import { defaultDevice } from '../../device/addon.js';
import * as explicit from '../../ops/attention.js';
import { nativeOf } from '../index.js';
import { tapeOp } from './tape_op.js';

type Attributes = { heads: number; kvHeads: number; headDim: number; lengths: number[] };

const run = tapeOp<'qkv', Attributes>({
  name: 'Attention',
  forward: ({ qkv }, attributes) =>
    withDocuments(attributes.lengths, qkv.shape[0], (documents) => {
      const { out, lse } = explicit.attention(nativeOf(qkv), documents, attributes);
      return [out, lse];
    }),
  saved: { inputs: ['qkv'], results: [true, true] },
  backward: ([dout], saved, attributes) => ({
    qkv: () =>
      withDocuments(attributes.lengths, saved[0].shape[0], (documents) => {
        const [qkv, out, lse] = saved.map((t) => nativeOf(t));
        return explicit.attentionBackward(nativeOf(dout), { out, lse, qkv }, documents, attributes);
      }),
  }),
});

/**
 * Causal attention of documents of these lengths that lie end to end: [tokens, H·D] of qkv [tokens, (H + 2·KV)·D],
 * whose rows are q | k | v; query head h looks at key/value head ⌊h·KV/H⌋. Scores are scaled by 1/√D. Differentiable.
 */
export function attention(qkv: Tensor, lengths: number[], heads: explicit.Heads): Tensor2D {
  const { heads: count, kvHeads, headDim } = heads;
  const [out, lse] = run({ qkv }, { heads: count, kvHeads, headDim, lengths });
  lse.dispose();
  return out as Tensor2D;
}

function withDocuments<T>(lengths: number[], tokens: number, body: (documents: explicit.Documents) => T): T {
  if (lengths.some((n) => !Number.isInteger(n) || n < 0) || lengths.reduce((sum, n) => sum + n, 0) !== tokens)
    throw new Error(`attention: documents of [${lengths}] tokens do not make up the ${tokens} rows of qkv`);
  const documents = explicit.documentsOf(lengths, defaultDevice());
  try {
    return body(documents);
  } finally {
    explicit.disposeDocuments(documents);
  }
}
