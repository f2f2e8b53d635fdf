import { type NativeTensor, release } from '../device/native_tensor.js';
import { attention, attentionBackward, type Documents, type Heads } from '../ops/attention.js';
import { rmsnorm, rmsnormBackward } from '../ops/rmsnorm.js';
import { type RopeAngles, ropeInPlace } from '../ops/rope.js';
import { swiglu, swigluBackwardInPlace } from '../ops/swiglu.js';
import type { LlamaConfig } from './config.js';
import { type GradientOf, type LinearLayer, linearLayerOf } from './linear_layer.js';
import type { Parameters, Weight } from './parameters.js';
import { blockNames } from './specs.js';

// One transformer block:
//   h₁ = h + attention(rope(norm(h)·Wqkvᵀ))·Woᵀ
//   h₂ = h₁ + swiglu(norm(h₁)·Wguᵀ)·Wdᵀ
// A product adds what goes around it, so that no pass over memory does nothing but add.

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

/** One block forward: h₂ of h, which `saved` takes over. */
export function blockForward(
  h: NativeTensor,
  block: Block,
  attend: Attend,
  config: LlamaConfig,
): { h2: NativeTensor; saved: Required<BlockSaved> } {
  const { y: n1, rstd: rstd1 } = rmsnorm(h, block.inputNorm.value, config.rmsNormEps);
  const qkv = block.qkv.forward(n1);
  ropeInPlace(qkv, attend.angles, config.numAttentionHeads + config.numKeyValueHeads);
  const { out: attended, lse } = attend.attention(qkv);
  const h1 = block.o.forward(attended, { addend: h });
  const { y: n2, rstd: rstd2 } = rmsnorm(h1, block.postAttentionNorm.value, config.rmsNormEps);
  const gateUp = block.gateUp.forward(n2);
  // Before what goes at once, which would leave a hole in the arena that nothing of the next block fills.
  const h2 = h1.like();
  const activated = swiglu(gateUp);
  block.down.forward(activated, { into: h2, addend: h1 });
  activated.dispose();
  return { h2, saved: { h, inner: { n1, rstd1, qkv, attended, lse, h1, n2, rstd2, gateUp } } };
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

/** Keeps only the block's input; backward will run the block again. */
export function forgetInner({ h, inner }: Required<BlockSaved>): BlockSaved {
  const { lse, ...rest } = inner;
  release(...Object.values(rest));
  lse?.dispose();
  return { h };
}

/** The same kernels on the same input: what comes back is what was forgotten, bit for bit. */
function recompute(h: NativeTensor, block: Block, attend: Attend, config: LlamaConfig): BlockInner {
  const { h2, saved } = blockForward(h, block, attend, config);
  h2.dispose();
  return saved.inner;
}

export function headsOf(config: LlamaConfig): Heads {
  return { heads: config.numAttentionHeads, kvHeads: config.numKeyValueHeads, headDim: config.headDim };
}
