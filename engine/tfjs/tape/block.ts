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
import { documentsOf } from '../../ops/attention.js';
import { axpby, fill } from '../../ops/elementwise.js';
import { adopt, nativeOf, tensorFrom } from '../index.js';
import { onceDifferentiable } from './tape_op.js';

/** The weights of a block as tensors: q|k|v and gate|up joined by rows. */
export interface BlockTensors {
  inputNorm: Tensor;
  qkv: Tensor;
  o: Tensor;
  postAttentionNorm: Tensor;
  gateUp: Tensor;
  down: Tensor;
}

/**
 * One transformer block over documents of these lengths that lie end to end, [tokens, C] → [tokens, C], differentiable
 * in h and the weights: model/block.ts itself. The tape keeps h alone; the gradient runs the block again.
 */
export function llamaBlock(
  h: Tensor2D,
  { inputNorm, qkv, o, postAttentionNorm, gateUp, down }: BlockTensors,
  lengths: readonly number[],
  config: LlamaConfig,
): Tensor2D {
  const run = customGrad((...inputs: (Tensor | GradSaveFunc)[]) => {
    const save = inputs.pop() as GradSaveFunc;
    const given = inputs as Tensor[];
    const value = releaseOnThrow(() => tensorFrom<Tensor2D>(adopt(forward(given, lengths, config))));
    save(given);
    return { value, gradFunc };
  });
  const gradFunc = (dy: Tensor, saved: Tensor[]): Tensor[] =>
    releaseOnThrow(() => backward(dy, saved, lengths, config)).map((gradient) =>
      onceDifferentiable('llamaBlock', tensorFrom(adopt(gradient)), [dy, ...saved]),
    );
  return run(h, inputNorm, qkv, o, postAttentionNorm, gateUp, down) as Tensor2D;
}

function forward([h, ...weights]: Tensor[], lengths: readonly number[], config: LlamaConfig): NativeTensor {
  return withPositions(lengths, config, (angles, documents) => {
    const attend = withinDocuments(angles, documents, headsOf(config));
    const { stream, saved } = blockForward({ residual: nativeOf(h) }, blockOf(weights), attend, config);
    const y = stream.delta!;
    axpby(y, 1, y, 1, stream.residual);
    forgetInner(saved);
    stream.residual.dispose();
    return y;
  });
}

/** The gradients of h and of each weight, in their order. */
function backward(
  dy: Tensor,
  [h, ...weights]: Tensor[],
  lengths: readonly number[],
  config: LlamaConfig,
): NativeTensor[] {
  return withPositions(lengths, config, (angles, documents) => {
    const block = blockOf(weights);
    const gradients = new Map<Weight, NativeTensor>();
    const of = (weight: Weight) => {
      const known = gradients.get(weight);
      if (known) return known;
      const gradient = weight.value.like(weight.value.shape, 'float32');
      fill(gradient, 0);
      gradients.set(weight, gradient);
      return gradient;
    };
    // What blockBackward() releases are views: h and dy are TF.js's.
    const [dh, own] = [dy, h].map((t) => nativeOf(t).view(t.shape));
    const dx = blockBackward(dh, { h: own }, block, { of }, { angles, documents }, config);
    const { inputNorm, qkv, o, postAttentionNorm, gateUp, down } = block;
    const order = [inputNorm, qkv.weight, o.weight, postAttentionNorm, gateUp.weight, down.weight];
    return [dx, ...order.map(of)];
  });
}

function blockOf(weights: Tensor[]): Block {
  const [inputNorm, qkv, o, postAttentionNorm, gateUp, down] = weights.map(
    (tensor): Weight => ({ value: nativeOf(tensor), offset: 0, trainable: true }),
  );
  return {
    inputNorm,
    qkv: new LinearLayer(qkv),
    o: new LinearLayer(o),
    postAttentionNorm,
    gateUp: new LinearLayer(gateUp),
    down: new LinearLayer(down),
  };
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
    documents.offsets.dispose();
  }
}
