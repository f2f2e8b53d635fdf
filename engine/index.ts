/**
 * tstrain as a library: TF.js tensors in and out (importing this registers the backend `native`), or the explicit
 * engine underneath.
 */

import { addon } from './backend/addon.js';
import { defaultThreads } from './backend/threads.js';

// Commands choose for themselves; whoever imports the library has the default until setThreads() is called.
addon.setThreads(defaultThreads());

/**
 * Threads that the backend computes with; at first `TSTRAIN_NUM_THREADS`, else the physical cores this process may use.
 * @throws UserError when OpenMP does not grant so many
 */
export function setThreads(threads: number): void {
  addon.setThreads(threads);
}

export { fallbackCounts, nativeOf, tensorOf } from './backend/index.js';
export { NativeTensor } from './backend/native_tensor.js';
export { loadHfWeights, saveHfWeights, type WeightSet } from './checkpoint/hf_model.js';
export { loadModel } from './checkpoint/load_model.js';
export { Decoder } from './generate/decoder.js';
export { type GenerateOptions, generate } from './generate/generate.js';
export { probabilities, type Sampling } from './generate/sampling.js';
export {
  type LlamaConfig,
  parseLlamaConfig,
  type RopeConfig,
  readLlamaConfig,
} from './model/config.js';
export type { MicroBatch } from './model/device_batch.js';
export { LlamaForCausalLM } from './model/llama.js';
export { Gradients, Parameters, type Precision } from './model/parameters.js';
export { type LossOptions, llamaLogits, llamaLoss, type NamedWeights } from './model/tape.js';
export type { Heads } from './ops/attention.js';
export { attention } from './ops/attention_tape.js';
export { embedding } from './ops/embedding_tape.js';
export { linearCrossEntropy } from './ops/linear_cross_entropy_tape.js';
export { linear } from './ops/linear_tape.js';
export { residualAdd } from './ops/residual_add_tape.js';
export { addRmsnorm, rmsnorm } from './ops/rmsnorm_tape.js';
export { rope } from './ops/rope_tape.js';
export { swiglu } from './ops/swiglu_tape.js';
export { AdamW, type AdamWOptions } from './optim/adamw.js';
export { clipFactor, globalNorm } from './optim/clip.js';
export { learningRateAt, type Schedule } from './optim/schedule.js';
export {
  evaluate,
  type TrainingBatch,
  type TrainingEnd,
  type TrainingHooks,
  type TrainingOptions,
  type TrainingRun,
  type TrainingStep,
  train,
} from './train/loop.js';
export type { EvalLine, LineSums, TrainLine } from './train/metrics.js';
