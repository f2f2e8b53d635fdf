import { type NativeTensor, release } from '../device/native_tensor.js';
import { attention, attentionBackward } from '../ops/attention.js';
import { linear, linearBackwardInput, linearBackwardWeight } from '../ops/linear.js';
import { addRmsnorm, rmsnorm, rmsnormBackward } from '../ops/rmsnorm.js';
import { ropeInPlace } from '../ops/rope.js';
import { swiglu, swigluBackwardInPlace } from '../ops/swiglu.js';
import type { LlamaConfig } from './config.js';
import type { DeviceBatch } from './device_batch.js';
import type { BlockWeights } from './parameters.js';

// One transformer block:
//   h₁ = h + attention(rope(norm(h)·Wqkvᵀ))·Woᵀ
//   h₂ = h₁ + swiglu(norm(h₁)·Wguᵀ)·Wdᵀ
// A sum is left open between blocks (`residual` + `delta`), so that the next norm adds and norms in one pass.

/** The residual stream between two blocks: its value is residual + delta. */
export interface Stream {
  residual: NativeTensor;
  delta?: NativeTensor;
}

/** What the backward pass of a block needs. With gradient checkpointing only `h` is there; the rest is made again. */
export interface BlockSaved {
  h: NativeTensor;
  inner?: BlockInner;
}

interface BlockInner {
  n1: NativeTensor;
  rstd1: NativeTensor;
  qkv: NativeTensor;
  attended: NativeTensor;
  lse: NativeTensor;
  h1: NativeTensor;
  n2: NativeTensor;
  rstd2: NativeTensor;
  gateUp: NativeTensor;
}

/** Adds an open sum up and norms it, releasing what was open. h is `stream.residual` itself when nothing is. */
export function openNorm(stream: Stream, w: NativeTensor, eps: number) {
  if (!stream.delta) return { ...rmsnorm(stream.residual, w, eps), h: stream.residual };
  const { y, rstd, sum } = addRmsnorm(stream.delta, stream.residual, w, eps);
  stream.delta.dispose();
  return { y, rstd, h: sum };
}

/**
 * One block forward. Takes over `stream.delta`; the stream that comes out has h₁ (saved) as its residual and a
 * delta of its own.
 */
export function blockForward(
  stream: Stream,
  w: BlockWeights,
  batch: DeviceBatch,
  config: LlamaConfig,
): { stream: Stream; saved: Required<BlockSaved> } {
  const heads = headsOf(config);
  const { y: n1, rstd: rstd1, h } = openNorm(stream, w.inputNorm, config.rmsNormEps);
  const qkv = linear(n1, w.qkv);
  ropeInPlace(qkv, batch.angles, heads.heads + heads.kvHeads);
  const { out: attended, lse } = attention(qkv, batch.documents, heads);
  const o = linear(attended, w.o);
  const { y: n2, rstd: rstd2, sum: h1 } = addRmsnorm(o, h, w.postAttentionNorm, config.rmsNormEps);
  o.dispose();
  const gateUp = linear(n2, w.gateUp);
  const activated = swiglu(gateUp);
  const delta = linear(activated, w.down);
  activated.dispose();
  return {
    stream: { residual: h1, delta },
    saved: { h, inner: { n1, rstd1, qkv, attended, lse, h1, n2, rstd2, gateUp } },
  };
}

/**
 * The gradient of the block's input from `dh`, that of its output; adds the weights' gradients to `dw`. Releases
 * `saved` and `dh`.
 */
export function blockBackward(
  dh: NativeTensor,
  saved: BlockSaved,
  w: BlockWeights,
  dw: BlockWeights,
  batch: DeviceBatch,
  config: LlamaConfig,
): NativeTensor {
  const heads = headsOf(config);
  const { h } = saved;
  const { n1, rstd1, qkv, attended, lse, h1, n2, rstd2, gateUp } =
    saved.inner ?? recompute(h, w, batch, config);

  const dactivated = linearBackwardInput(dh, w.down);
  const { dgateUp, y: activated } = swigluBackwardInPlace(dactivated, gateUp);
  linearBackwardWeight(dw.down, dh, activated);
  activated.dispose();
  const dn2 = linearBackwardInput(dgateUp, w.gateUp);
  linearBackwardWeight(dw.gateUp, dgateUp, n2);
  release(dgateUp, n2);
  const dh1 = rmsnormBackward(dn2, h1, w.postAttentionNorm, rstd2, {
    dw: dw.postAttentionNorm,
    dresidual: dh,
  });
  release(dn2, h1, rstd2, dh);

  const dattended = linearBackwardInput(dh1, w.o);
  linearBackwardWeight(dw.o, dh1, attended);
  const dqkv = attentionBackward(dattended, { out: attended, lse, qkv }, batch.documents, heads);
  release(dattended, attended, lse, qkv);
  ropeInPlace(dqkv, batch.angles, heads.heads + heads.kvHeads, true);
  const dn1 = linearBackwardInput(dqkv, w.qkv);
  linearBackwardWeight(dw.qkv, dqkv, n1);
  release(dqkv, n1);
  const dx = rmsnormBackward(dn1, h, w.inputNorm, rstd1, { dw: dw.inputNorm, dresidual: dh1 });
  release(dn1, h, rstd1, dh1);
  return dx;
}

/** Keeps only the block's input; backward will run the block again. h₁ stays with the stream that carries it. */
export function forgetInner({ h, inner }: Required<BlockSaved>): BlockSaved {
  const { h1: _, ...rest } = inner;
  release(...Object.values(rest));
  return { h };
}

/** The same kernels on the same input: what comes back is what was forgotten, bit for bit. */
function recompute(h: NativeTensor, w: BlockWeights, batch: DeviceBatch, config: LlamaConfig): BlockInner {
  const { stream, saved } = blockForward({ residual: h }, w, batch, config);
  stream.delta!.dispose();
  return saved.inner;
}

function headsOf(config: LlamaConfig) {
  return { heads: config.numAttentionHeads, kvHeads: config.numKeyValueHeads, headDim: config.headDim };
}
