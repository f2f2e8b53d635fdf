import {
  add,
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
import { defaultDevice } from '../../device/addon.js';
import { NativeTensor } from '../../device/native_tensor.js';
import type { LlamaConfig } from '../../model/config.js';
import type { MicroBatch } from '../../model/device_batch.js';
import { llamaLayout } from '../../model/layout.js';
import { LlamaForCausalLM } from '../../model/llama.js';
import { Gradients, Parameters, type Precision } from '../../model/parameters.js';
import { RopeTables } from '../../model/rope_tables.js';
import { axpby, cast } from '../../ops/elementwise.js';
import { adopt, nativeOf, tensorFrom } from '../index.js';
import { attention } from './attention.js';
import { embedding } from './embedding.js';
import { linear } from './linear.js';
import { addRmsnorm, rmsnorm } from './rmsnorm.js';
import { rope } from './rope.js';
import { swiglu } from './swiglu.js';
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
  const { entries } = llamaLayout(config);
  check(config, weights);
  const labels = batch.targets.reduce((count, target) => count + (target === -100 ? 0 : 1), 0);
  const wanted = engine().isTapeOn();

  const loss = customGrad((...inputs: (Tensor | GradSaveFunc)[]) => {
    const save = inputs.pop() as GradSaveFunc;
    const parameters = new Parameters(config, defaultDevice(), precision);
    entries.forEach(({ name }, i) => {
      const to = parameters.tensor(name);
      cast(to, nativeOf(inputs[i] as Tensor));
      to.dispose();
    });
    parameters.mastersChanged();
    const model = new LlamaForCausalLM(parameters);
    let value = 0;
    if (wanted) {
      const gradients = new Gradients(parameters.layout, config, defaultDevice());
      const sum = model.forwardBackward(batch, 1 / labels, gradients, { gradientCheckpointing });
      if (labels > 0) value = sum / labels;
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
 * The logits [tokens, vocab] of every position, differentiable in all weights: the same model made of the tape forms
 * of its ops, for losses of one's own. TF.js's tape keeps every activation until backward ends; llamaLoss() does not.
 */
export function llamaLogits(
  config: LlamaConfig,
  weights: NamedWeights,
  { ids, documentOffsets }: Pick<MicroBatch, 'ids' | 'documentOffsets'>,
): Tensor2D {
  check(config, weights);
  const heads = {
    heads: config.numAttentionHeads,
    kvHeads: config.numKeyValueHeads,
    headDim: config.headDim,
  };
  const eps = config.rmsNormEps;
  const lengths = Array.from(documentOffsets.subarray(1), (end, j) => end - documentOffsets[j]);
  return tidy(() => {
    const tables = new RopeTables(config, defaultDevice());
    const { cos, sin, index } = tables.angles(lengths);
    tables.dispose();
    const angles = {
      cos: tensorFrom(adopt(cos)),
      sin: tensorFrom(adopt(sin)),
      index: tensorFrom(adopt(index)),
    };
    const table = weights['model.embed_tokens.weight'];
    let h = embedding(table, tensor1d(ids, 'int32'));
    for (let i = 0; i < config.numHiddenLayers; i++) {
      const w = (part: string) => weights[`model.layers.${i}.${part}.weight`];
      const joined = (...parts: string[]) => concat(parts.map(w), 0);
      const qkv = linear(
        rmsnorm(h, w('input_layernorm'), eps),
        joined('self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'),
      );
      const attended = attention(rope(qkv, angles, heads.heads + heads.kvHeads), lengths, heads);
      const o = linear(attended as Tensor, w('self_attn.o_proj'));
      const { y, sum } = addRmsnorm(o, h, w('post_attention_layernorm'), eps);
      const gateUp = linear(y, joined('mlp.gate_proj', 'mlp.up_proj'));
      h = add(linear(swiglu(gateUp), w('mlp.down_proj')), sum);
    }
    const head = config.tieWordEmbeddings ? table : weights['lm_head.weight'];
    return linear(rmsnorm(h, weights['model.norm.weight'], eps), head) as Tensor2D;
  });
}

function check(config: LlamaConfig, weights: NamedWeights): void {
  for (const { name, shape } of llamaLayout(config).entries) {
    const given = weights[name];
    if (!given) throw new Error(`the weight ${name} [${shape}] is missing`);
    if (given.shape.join() !== shape.join())
      throw new Error(`the weight ${name} has the shape [${given.shape}], not [${shape}]`);
  }
}
