import { type NativeTensor, release } from '../device/native_tensor.js';
import { attention, attentionBackward, type Documents, type Heads } from '../ops/attention.js';
import { addRmsnorm, rmsnorm, rmsnormBackward } from '../ops/rmsnorm.js';
import { type RopeAngles, ropeInPlace } from '../ops/rope.js';
import { swiglu, swigluBackwardInPlace } from '../ops/swiglu.js';
import type { LlamaConfig } from './config.js';
import { type GradientOf, type LinearLayer, linearLayerOf } from './linear_layer.js';
import type { Parameters, Weight } from './parameters.js';
import { blockNames } from './specs.js';

// One transformer block:
//   h₁ = h + attention(rope(norm(h)·Wqkvᵀ))·Woᵀ
//   h₂ = h₁ + swiglu(norm(h₁)·Wguᵀ)·Wdᵀ
// A sum is left open between blocks (`residual` + `delta`), so that the next norm adds and norms in one pass.

/** The parts of a block, in the order of use. */
export interface Block {
  inputNorm: Weight;
  qkv: LinearLayer;
  o: LinearLayer;
  postAttentionNorm: Weight;
  gateUp: LinearLayer;
  down: LinearLayer;
}

export function blockOf(parameters: Parameters, layer: number): Block {
  const names = blockNames(layer);
  const linear = (part: readonly string[]) => linearLayerOf(parameters, part);
  return {
    inputNorm: parameters.weight(...names.inputNorm),
    qkv: linear(names.qkv),
    o: linear(names.o),
    postAttentionNorm: parameters.weight(...names.postAttentionNorm),
    gateUp: linear(names.gateUp),
    down: linear(names.down),
  };
}

/** Whether anything of a block is trained. */
export function isTrained({ inputNorm, postAttentionNorm, ...layers }: Block): boolean {
  return (
    inputNorm.trainable ||
    postAttentionNorm.trainable ||
    Object.values(layers).some((layer: LinearLayer) => layer.isTrained)
  );
}

/** The residual stream between two blocks: its value is residual + delta. */
export interface Stream {
  residual: NativeTensor;
  delta?: NativeTensor;
}

/** Where tokens stand, and what they look at: the only thing in which training and decoding differ. */
export interface Attend {
  angles: RopeAngles;
  /** The attended values of qkv, whose queries and keys are turned already. */
  attention(qkv: NativeTensor): { out: NativeTensor; lse?: NativeTensor };
}

/** Every token looks at those before it in its own document. */
export function withinDocuments(angles: RopeAngles, documents: Documents, heads: Heads): Attend {
  return { angles, attention: (qkv) => attention(qkv, documents, heads) };
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
  /** Not of attention that has no backward pass. */
  lse?: NativeTensor;
  h1: NativeTensor;
  n2: NativeTensor;
  rstd2: NativeTensor;
  gateUp: NativeTensor;
}

/** Adds an open sum up and norms it, releasing what was open. h is `stream.residual` itself when nothing is. */
export function openNorm(stream: Stream, norm: Weight, eps: number) {
  if (!stream.delta) return { ...rmsnorm(stream.residual, norm.value, eps), h: stream.residual };
  const { y, rstd, sum } = addRmsnorm(stream.delta, stream.residual, norm.value, eps);
  stream.delta.dispose();
  return { y, rstd, h: sum };
}

/**
 * One block forward. Takes over `stream.delta`; the stream that comes out has h₁ (saved) as its residual and a
 * delta of its own.
 */
export function blockForward(
  stream: Stream,
  block: Block,
  attend: Attend,
  config: LlamaConfig,
): { stream: Stream; saved: Required<BlockSaved> } {
  const { y: n1, rstd: rstd1, h } = openNorm(stream, block.inputNorm, config.rmsNormEps);
  const qkv = block.qkv.forward(n1);
  ropeInPlace(qkv, attend.angles, config.numAttentionHeads + config.numKeyValueHeads);
  const { out: attended, lse } = attend.attention(qkv);
  const o = block.o.forward(attended);
  const { y: n2, rstd: rstd2, sum: h1 } = addRmsnorm(o, h, block.postAttentionNorm.value, config.rmsNormEps);
  o.dispose();
  const gateUp = block.gateUp.forward(n2);
  const activated = swiglu(gateUp);
  const delta = block.down.forward(activated);
  activated.dispose();
  return {
    stream: { residual: h1, delta },
    saved: { h, inner: { n1, rstd1, qkv, attended, lse, h1, n2, rstd2, gateUp } },
  };
}

/**
 * The gradient of the block's input from `dh`, that of its output; adds the weights' gradients to `gradients`. Releases
 * `saved` and `dh`.
 */
export function blockBackward(
  dh: NativeTensor,
  saved: BlockSaved,
  block: Block,
  gradients: GradientOf,
  { angles, documents }: { angles: RopeAngles; documents: Documents },
  config: LlamaConfig,
): NativeTensor {
  const heads = headsOf(config);
  const { h } = saved;
  const { n1, rstd1, qkv, attended, lse, h1, n2, rstd2, gateUp } =
    saved.inner ?? recompute(h, block, withinDocuments(angles, documents, heads), config);

  const dactivated = block.down.backwardInput(dh);
  const { dgateUp, y: activated } = swigluBackwardInPlace(dactivated, gateUp);
  block.down.backwardWeight(dh, activated, gradients);
  activated.dispose();
  const dn2 = block.gateUp.backwardInput(dgateUp);
  block.gateUp.backwardWeight(dgateUp, n2, gradients);
  release(dgateUp, n2);
  const dh1 = rmsnormBackward(dn2, h1, block.postAttentionNorm.value, rstd2, {
    dw: gradients.of(block.postAttentionNorm),
    dresidual: dh,
  });
  release(dn2, h1, rstd2, dh);

  const dattended = block.o.backwardInput(dh1);
  block.o.backwardWeight(dh1, attended, gradients);
  const dqkv = attentionBackward(dattended, { out: attended, lse: lse!, qkv }, documents, heads);
  release(dattended, attended, lse!, qkv);
  ropeInPlace(dqkv, angles, heads.heads + heads.kvHeads, true);
  const dn1 = block.qkv.backwardInput(dqkv);
  block.qkv.backwardWeight(dqkv, n1, gradients);
  release(dqkv, n1);
  const dx = rmsnormBackward(dn1, h, block.inputNorm.value, rstd1, {
    dw: gradients.of(block.inputNorm),
    dresidual: dh1,
  });
  release(dn1, h, rstd1, dh1);
  return dx;
}

/** Keeps only the block's input; backward will run the block again. h₁ stays with the stream that carries it. */
export function forgetInner({ h, inner }: Required<BlockSaved>): BlockSaved {
  const { h1: _, lse, ...rest } = inner;
  release(...Object.values(rest));
  lse?.dispose();
  return { h };
}

/** The same kernels on the same input: what comes back is what was forgotten, bit for bit. */
function recompute(h: NativeTensor, block: Block, attend: Attend, config: LlamaConfig): BlockInner {
  const { stream, saved } = blockForward({ residual: h }, block, attend, config);
  stream.delta!.dispose();
  return saved.inner;
}

export function headsOf(config: LlamaConfig): Heads {
  return { heads: config.numAttentionHeads, kvHeads: config.numKeyValueHeads, headDim: config.headDim };
}
