import { join } from 'node:path';
import {
  type Dataset,
  evaluationMicroBatches,
  loadDataset,
  type RunSchedule,
  renderReport,
  runSchedule,
} from '../data/index.js';
import { type DeviceName, defaultDevice } from '../engine/device/addon.js';
import type { FloatType } from '../engine/device/native_tensor.js';
import { defaultThreads } from '../engine/machine/threads.js';
import { type LlamaConfig, parseLlamaConfig, readLlamaConfig } from '../engine/model/config.js';
import type { Precision } from '../engine/model/parameters.js';
import type { AdamWOptions } from '../engine/optim/adamw.js';
import { warmupStepsOf } from '../engine/optim/schedule.js';
import type { TrainingOptions } from '../engine/train/loop.js';
import { UserError } from '../errors.js';
import { makeTokenizer, type Tokenizer } from '../tokenizer/index.js';
import { type Companions, readCompanions } from './companions.js';
import { GENERATION_CONFIG, parseGenerationConfig } from './generation_config.js';
import type { PlanConfig, RunConfig } from './settings.js';
import { reconcileSpecialIds } from './special_ids.js';

/** Where a run computes and how, as far as its memory and arithmetic go. */
export interface Arithmetic {
  device: DeviceName;
  precision: Precision;
  /** What gradients are added up in, and what moments are kept in. */
  gradientType: FloatType;
  stateType: FloatType;
  /** Whether what only the optimizer needs lies in the machine's memory. */
  stateOnHost: boolean;
  gradientCheckpointing: boolean;
}

/** A run that can start, or be planned: its data read and tokenised, its steps counted, nothing on a device yet. */
export interface PreparedRun extends Arithmetic {
  config: RunConfig;
  /** With the BOS and EOS that the rows have. */
  model: LlamaConfig;
  /** What is saved beside each model: the tokenizer's files above all. */
  companions: Companions;
  dataset: Dataset;
  evalDataset: Dataset | undefined;
  schedule: RunSchedule;
  /** The micro-batches of an evaluation, as indices of examples; none without evaluation data. */
  evaluation: readonly Int32Array[];
  optimizer: Omit<AdamWOptions, 'stateType' | 'onHost'>;
  training: TrainingOptions;
}

/** The model that a run's settings describe, or that it starts from, as its config says. */
export function modelOf({ model_config, model_name_or_path }: PlanConfig): LlamaConfig {
  return model_config === undefined
    ? readLlamaConfig(model_name_or_path!)
    : parseLlamaConfig(model_config, 'model_config');
}

/**
 * Reads the data of a run and counts its steps; `say` gets lines for the user.
 * @param written the run's model, where it has been read already
 */
export async function prepareRun(
  config: RunConfig,
  say: (line: string) => void,
  written = modelOf(config),
): Promise<PreparedRun> {
  for (const note of written.notes) say(note);

  const companions = readCompanions(config);
  const directory = config.tokenizer_name_or_path;
  let made: Tokenizer | undefined;
  const tokenizer =
    directory === undefined ? undefined : () => (made ??= makeTokenizer(directory, companions));
  const load = async (path: string) => {
    const dataset = await loadDataset({
      path,
      tokenizer,
      modelMaxLength: config.model_max_length,
      keepUnlabelledRows: config.keep_unlabelled_rows,
      vocabSize: written.vocabSize,
      threads: config.threads ?? defaultThreads(),
    });
    for (const line of renderReport(dataset.report)) say(line);
    return dataset;
  };
  const dataset = await load(config.data_path);
  const longest = dataset.lengths.reduce((most, n) => Math.max(most, n), 0);
  if (longest > written.maxPositionEmbeddings)
    say(
      `warning: the longest row has ${longest} tokens, more than max_position_embeddings (${written.maxPositionEmbeddings})`,
    );
  const generation = companions.get(GENERATION_CONFIG);
  const { model, generationConfig, differences } = reconcileSpecialIds({
    model: written,
    isNew: config.model_config !== undefined,
    generation:
      generation && parseGenerationConfig(join(config.model_name_or_path!, GENERATION_CONFIG), generation),
    tokenizer: companions.has('tokenizer.json') ? ifReadable(tokenizer!, say) : undefined,
    dataset,
  });
  for (const line of differences) say(line);
  const evalDataset = config.eval_strategy === 'no' ? undefined : await load(config.eval_data_path!);

  const schedule = await scheduleOf(config, dataset.lengths);
  const { totalSteps } = schedule;
  return {
    config,
    model,
    companions:
      generationConfig === undefined
        ? companions
        : new Map([...companions, [GENERATION_CONFIG, new TextEncoder().encode(generationConfig)]]),
    ...arithmeticOf(config),
    dataset,
    evalDataset,
    schedule,
    evaluation: evalDataset
      ? evaluationMicroBatches(evalDataset.length, config.per_device_eval_batch_size)
      : [],
    optimizer: {
      beta1: config.adam_beta1,
      beta2: config.adam_beta2,
      epsilon: config.adam_epsilon,
      weightDecay: config.weight_decay,
      seed: config.seed,
    },
    training: {
      schedule: {
        type: config.lr_scheduler_type,
        learningRate: config.learning_rate,
        warmupSteps: warmupStepsOf(totalSteps, config.warmup_ratio, config.warmup_steps),
        totalSteps,
      },
      maxGradNorm: config.max_grad_norm,
      lossNormalization: config.loss_normalization,
      loggingSteps: config.logging_steps,
      evaluateEvery: config.eval_strategy === 'steps' ? config.eval_steps! : config.eval_strategy,
      saveEvery: config.save_strategy === 'steps' ? config.save_steps : config.save_strategy,
    },
  };
}

/** A tokenizer that has read texts, or one that rows of ids do without: if it cannot be read, that is only told. */
function ifReadable(tokenizer: () => Tokenizer, say: (line: string) => void): Tokenizer | undefined {
  try {
    return tokenizer();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    say(`${error.message} (rows of token ids do not need it; its BOS and EOS are not known)`);
    return undefined;
  }
}

export function arithmeticOf(config: PlanConfig): Arithmetic {
  return {
    device: deviceOf(config),
    precision: config.bf16 ? 'bf16' : 'fp32',
    gradientType: config.gradient_dtype,
    stateType: config.optimizer_state_dtype,
    stateOnHost: config.optimizer_offload !== 'none',
    gradientCheckpointing: config.gradient_checkpointing,
  };
}

/** The device that a run computes on. */
export function deviceOf({ device }: PlanConfig): DeviceName {
  return device === 'auto' ? defaultDevice() : device;
}

/** The steps that a run makes of examples of these lengths. */
export function scheduleOf(config: RunConfig, lengths: Int32Array): Promise<RunSchedule> {
  return runSchedule(lengths, {
    dataOrder: config.data_order,
    seed: config.seed,
    packing: config.packing,
    perDeviceTrainBatchSize: config.per_device_train_batch_size,
    modelMaxLength: config.model_max_length,
    gradientAccumulationSteps: config.gradient_accumulation_steps,
    numTrainEpochs: config.num_train_epochs,
    maxSteps: config.max_steps,
  });
}
