import {
  concat,
  customGrad,
  engine,
  type GradSaveFunc,
  type Scalar,
  scalar,
  type Tensor,
  type Tensor2D,
  tensor1d,
  tidy,
} from '@tensorflow/tfjs-core';
import { IGNORE_INDEX, type MicroBatch } from '../../../batch.js';
import { addon, defaultDevice } from '../../device/addon.js';
import { NativeTensor } from '../../device/native_tensor.js';
import type { LlamaConfig } from '../../model/config.js';
import { layoutOf } from '../../model/layout.js';
import { LlamaForCausalLM } from '../../model/llama.js';
import { Gradients, Parameters, type Precision } from '../../model/parameters.js';
import { biasOf, blockNames, causalLmSpecs, EMBEDDING, FINAL_NORM, HEAD } from '../../model/specs.js';
import { axpby } from '../../ops/elementwise.js';
import { sum } from '../../ops/reduce.js';
import { adopt, nativeOf, tensorFrom } from '../index.js';
import { llamaBlock } from './block.js';
import { embedding } from './embedding.js';
import { linear } from './linear.js';
import { rmsnorm } from './rmsnorm.js';
import { onceDifferentiable } from './tape_op.js';

// The model as differentiable TF.js functions, for tf.grads, variableGrads and TF.js's optimizers. Weights are inputs,
// by their names and in their shapes in Hugging Face files; their gradients are returned, not added anywhere.

/** Weights by name. A tied model has no `lm_head.weight`. */
export type NamedWeights = Record<string, Tensor>;

export interface LossOptions {
  /** `bf16` rounds the weights on the way in; gradients are float32 in either case. */
  precision?: Precision;
  gradientCheckpointing?: boolean;
}

/**
 * The mean loss over the labelled tokens of a micro-batch (0 when there are none), differentiable in all weights. It
 * is LlamaForCausalLM.forwardBackward itself: under a tape, loss and gradients are made in one pass, of which only the
 * gradients stay until TF.js asks for them; otherwise only the loss is.
 * @throws Error when a weight is missing or has another shape than the config says.
 */
export function llamaLoss(
  config: LlamaConfig,
  weights: NamedWeights,
  batch: MicroBatch,
  { precision = 'fp32', gradientCheckpointing = false }: LossOptions = {},
): Scalar {
  const { entries } = layoutOf(causalLmSpecs(config), addon.vocabularyStep(defaultDevice()));
  check(config, weights);
  const labels = batch.targets.reduce((count, target) => count + (target === IGNORE_INDEX ? 0 : 1), 0);
  const wanted = engine().isTapeOn();

  const loss = customGrad((...inputs: (Tensor | GradSaveFunc)[]) => {
    const save = inputs.pop() as GradSaveFunc;
    const parameters = new Parameters(config, defaultDevice(), precision);
    entries.forEach(({ name }, i) => {
      parameters.take(name, nativeOf(inputs[i] as Tensor));
    });
    const model = new LlamaForCausalLM(parameters);
    let value = 0;
    if (wanted) {
      const gradients = new Gradients(parameters);
      const losses = model.forwardBackward(batch, 1 / labels, gradients, { gradientCheckpointing });
      if (labels > 0) value = sum(losses) / labels;
      losses.dispose();
      // What is saved has to be a tensor: all gradients are one, flat.
      const flat = gradients.flat;
      save([tensorFrom(adopt(flat.view(flat.shape)))]);
      gradients.dispose();
    } else if (labels > 0) {
      value = model.losses(batch).reduce((sum, x) => sum + x, 0) / labels;
    }
    model.dispose();
    return { value: scalar(value), gradFunc };
  });

  const gradFunc = (dloss: Tensor, saved: Tensor[]): Tensor[] => {
    const [scale] = dloss.dataSync();
    const flat = nativeOf(saved[0]);
    return entries.map(({ shape, offset }) => {
      const gradient = NativeTensor.inArena(defaultDevice(), 'float32', shape);
      const part = flat.view(shape, offset);
      axpby(gradient, scale, part);
      part.dispose();
      return onceDifferentiable('llamaLoss', tensorFrom(adopt(gradient)), [dloss, ...Object.values(weights)]);
    });
  };
  return loss(...entries.map(({ name }) => weights[name])) as Scalar;
}

/**
 * The logits [tokens, vocab] of every position, differentiable in all weights, for losses of one's own. TF.js's tape
 * keeps the input of each block, and the logits of all positions exist at once; llamaLoss() keeps neither.
 */
export function llamaLogits(
  config: LlamaConfig,
  weights: NamedWeights,
  { ids, documentOffsets }: Pick<MicroBatch, 'ids' | 'documentOffsets'>,
): Tensor2D {
  check(config, weights);
  const lengths = Array.from(documentOffsets.subarray(1), (end, j) => end - documentOffsets[j]);
  return tidy(() => {
    const joined = (names: readonly string[]) => {
      const parts = names.map((name) => weights[name]);
      return parts.length === 1 ? parts[0] : concat(parts, 0);
    };
    const linearOf = (names: readonly string[]) => {
      const biases = names.map(biasOf);
      return { weight: joined(names), bias: weights[biases[0]] && joined(biases) };
    };
    let h = embedding(weights[EMBEDDING], tensor1d(ids, 'int32')) as Tensor2D;
    for (let i = 0; i < config.numHiddenLayers; i++) {
      const { inputNorm, qkv, o, postAttentionNorm, gateUp, down } = blockNames(i);
      const block = {
        inputNorm: joined(inputNorm),
        qkv: linearOf(qkv),
        o: linearOf(o),
        postAttentionNorm: joined(postAttentionNorm),
        gateUp: linearOf(gateUp),
        down: linearOf(down),
      };
      h = llamaBlock(h, block, lengths, config);
    }
    const head = weights[config.tieWordEmbeddings ? EMBEDDING : HEAD];
    return linear(rmsnorm(h, weights[FINAL_NORM], config.rmsNormEps), head) as Tensor2D;
  });
}

function check(config: LlamaConfig, weights: NamedWeights): void {
  for (const { name, shape } of causalLmSpecs(config).flat()) {
    const given = weights[name];
    if (!given) throw new Error(`the weight ${name} [${shape}] is missing`);
    if (given.shape.join() !== shape.join())
      throw new Error(`the weight ${name} has the shape [${given.shape}], not [${shape}]`);
  }
}
