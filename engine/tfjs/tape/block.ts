import { customGrad, type GradSaveFunc, type Tensor, type Tensor2D } from '@tensorflow/tfjs-core';
import { defaultDevice } from '../../device/addon.js';
import type { NativeTensor } from '../../device/native_tensor.js';
import { releaseOnThrow } from '../../device/native_tensor.js';
import {
  type Block,
  blockBackward,
  blockForward,
  forgetInner,
  headsOf,
  withinDocuments,
} from '../../model/block.js';
import type { LlamaConfig } from '../../model/config.js';
import { LinearLayer } from '../../model/linear_layer.js';
import type { Weight } from '../../model/parameters.js';
import { disposeAngles, RopeTables } from '../../model/rope_tables.js';
import { disposeDocuments, documentsOf } from '../../ops/attention.js';
import { fill } from '../../ops/elementwise.js';
import { adopt, nativeOf, tensorFrom } from '../index.js';
import { onceDifferentiable } from './tape_op.js';

/** A linear layer as tensors: a weight [out, in], a bias [out]. */
export interface LinearTensors {
  weight: Tensor;
  bias?: Tensor;
}

/** The weights of a block as tensors: q|k|v and gate|up joined by rows. */
export interface BlockTensors {
  inputNorm: Tensor;
  qkv: LinearTensors;
  o: LinearTensors;
  postAttentionNorm: Tensor;
  gateUp: LinearTensors;
  down: LinearTensors;
}

/**
 * One transformer block over documents of these lengths that lie end to end, [tokens, C] → [tokens, C], differentiable
 * in h and the weights: model/block.ts itself. The tape keeps h alone; the gradient runs the block again.
 */
export function llamaBlock(
  h: Tensor2D,
  { inputNorm, postAttentionNorm, qkv, o, gateUp, down }: BlockTensors,
  lengths: readonly number[],
  config: LlamaConfig,
): Tensor2D {
  const layers = [qkv, o, gateUp, down];
  const given = [
    h,
    inputNorm,
    postAttentionNorm,
    ...layers.flatMap(({ weight, bias }) => (bias ? [weight, bias] : [weight])),
  ];
  const blockOf = (tensors: Tensor[]) =>
    new Weights(
      tensors,
      layers.map(({ bias }) => bias !== undefined),
    );
  const run = customGrad((...inputs: (Tensor | GradSaveFunc)[]) => {
    const save = inputs.pop() as GradSaveFunc;
    const [x, ...weights] = inputs as Tensor[];
    const value = releaseOnThrow(() =>
      tensorFrom<Tensor2D>(adopt(forward(x, blockOf(weights).block, lengths, config))),
    );
    save([x, ...weights]);
    return { value, gradFunc };
  });
  const gradFunc = (dy: Tensor, saved: Tensor[]): Tensor[] => {
    const [x, ...weights] = saved;
    return releaseOnThrow(() => backward(dy, x, blockOf(weights), lengths, config)).map((gradient) =>
      onceDifferentiable('llamaBlock', tensorFrom(adopt(gradient)), [dy, ...saved]),
    );
  };
  return run(...given) as Tensor2D;
}

/** The tensors of a block, in one list, as the model takes them; and their gradients. */
class Weights {
  readonly block: Block;
  private readonly order: Weight[];
  private readonly gradients = new Map<Weight, NativeTensor>();

  /** Norms, then weight and bias (of those layers that have one) of q|k|v, o, gate|up and down. */
  constructor(tensors: Tensor[], biased: readonly boolean[]) {
    this.order = tensors.map((tensor) => ({ value: nativeOf(tensor), offset: 0, trainable: true }));
    const [inputNorm, postAttentionNorm, ...rest] = this.order;
    const [qkv, o, gateUp, down] = biased.map(
      (bias) => new LinearLayer(rest.shift()!, bias ? rest.shift() : undefined),
    );
    this.block = { inputNorm, qkv, o, postAttentionNorm, gateUp, down };
  }

  of(weight: Weight): NativeTensor {
    const known = this.gradients.get(weight);
    if (known) return known;
    const gradient = weight.value.like(weight.value.shape, 'float32');
    fill(gradient, 0);
    this.gradients.set(weight, gradient);
    return gradient;
  }

  forProduct(weight: Weight): { dw: NativeTensor; accumulate: boolean } {
    return { dw: this.of(weight), accumulate: true };
  }

  all(): NativeTensor[] {
    return this.order.map((weight) => this.of(weight));
  }
}

function forward(h: Tensor, block: Block, lengths: readonly number[], config: LlamaConfig): NativeTensor {
  return withPositions(lengths, config, (angles, documents) => {
    const attend = withinDocuments(angles, documents, headsOf(config));
    const { h2, saved } = blockForward(nativeOf(h), block, attend, config);
    forgetInner(saved);
    return h2;
  });
}

/** The gradients of h and of each weight, in their order. */
function backward(
  dy: Tensor,
  h: Tensor,
  weights: Weights,
  lengths: readonly number[],
  config: LlamaConfig,
): NativeTensor[] {
  return withPositions(lengths, config, (angles, documents) => {
    // What blockBackward() releases are views: h and dy are TF.js's.
    const [dh, own] = [dy, h].map((t) => nativeOf(t).view(t.shape));
    const dx = blockBackward(dh, { h: own }, weights.block, weights, { angles, documents }, config);
    return [dx, ...weights.all()];
  });
}

function withPositions<T>(
  lengths: readonly number[],
  config: LlamaConfig,
  body: (angles: ReturnType<RopeTables['angles']>, documents: ReturnType<typeof documentsOf>) => T,
): T {
  const tables = new RopeTables(config, defaultDevice());
  const angles = tables.angles(lengths);
  const documents = documentsOf(lengths, defaultDevice());
  try {
    return body(angles, documents);
  } finally {
    disposeAngles(angles);
    tables.dispose();
    disposeDocuments(documents);
  }
}
