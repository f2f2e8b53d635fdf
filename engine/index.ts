/**
 * What users of the library have of the engine: TF.js tensors in and out (importing this registers the backend
 * `native`), or explicit forward and backward underneath.
 */

import { addon } from './device/addon.js';

/**
 * Threads that the backend computes with; at first `TSTRAIN_NUM_THREADS`, else the physical cores this process may use.
 * @throws UserError when OpenMP does not grant so many
 */
export function setThreads(threads: number): void {
  addon.setThreads(threads);
}

export { loadHfWeights, saveHfWeights, type WeightSet } from './checkpoint/hf_model.js';
export { loadModel } from './checkpoint/load_model.js';
export { setDevice } from './device/addon.js';
export { NativeTensor } from './device/native_tensor.js';
export { type Continuation, Decoder } from './generate/decoder.js';
export {
  type GenerateManyOptions,
  type GenerateOptions,
  generate,
  generateMany,
} from './generate/generate.js';
export { probabilities, type Sampling } from './generate/sampling.js';
export {
  type LlamaConfig,
  parseLlamaConfig,
  type RopeConfig,
  readLlamaConfig,
} from './model/config.js';
export type { LayoutEntry, ParameterGroup, ParameterSpec } from './model/layout.js';
export { LlamaForCausalLM } from './model/llama.js';
export { type LoraOptions, loraSpecs } from './model/lora.js';
export { Gradients, Parameters, type Precision } from './model/parameters.js';
export { ScoreHead } from './model/score_head.js';
export { causalLmSpecs, SCORE, scoreSpecs, type Trainable } from './model/specs.js';
export type { Heads } from './ops/attention.js';
export { AdamW, type AdamWOptions, type UpdateOptions } from './optim/adamw.js';
export { learningRateAt, type Schedule } from './optim/schedule.js';
export { fallbackCounts, nativeOf, tensorOf } from './tfjs/index.js';
export { attention } from './tfjs/tape/attention.js';
export { embedding } from './tfjs/tape/embedding.js';
export { linear } from './tfjs/tape/linear.js';
export { linearCrossEntropy } from './tfjs/tape/linear_cross_entropy.js';
export { type LossOptions, llamaLogits, llamaLoss, type NamedWeights } from './tfjs/tape/llama.js';
export { residualAdd } from './tfjs/tape/residual_add.js';
export { rmsnorm } from './tfjs/tape/rmsnorm.js';
export { rope } from './tfjs/tape/rope.js';
export { swiglu } from './tfjs/tape/swiglu.js';
export {
  evaluate,
  type TrainingEnd,
  type TrainingHooks,
  type TrainingOptions,
  type TrainingRun,
  type TrainingStep,
  train,
} from './train/loop.js';
export type { EvalLine, EvalMeans, LineSums, TrainLine } from './train/metrics.js';
export { nextToken, type Objective } from './train/objective.js';
