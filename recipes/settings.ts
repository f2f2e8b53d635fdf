import { stringify } from 'yaml';
import { z } from 'zod';
import { isThreadCount, THREAD_COUNT } from '../engine/machine/threads.js';
import { SCHEDULES } from '../engine/optim/schedule.js';

// Each kind of value says in its description what it expects; an error message reads it from there. Flat keys
// with one line each: another key is one more line in `schema`.
const number = (text: string, inRange: (x: number) => boolean) => z.number().refine(inRange).describe(text);
const whole = (min: number) => z.int().min(min).describe(`a whole number, ${min} or more`);
const positive = number('a number greater than 0', (x) => x > 0);
const notNegative = number('a number, 0 or more', (x) => x >= 0);
const beta = number('a number from 0 up to, but not including, 1', (x) => x >= 0 && x < 1);
const fraction = number('a number from 0 to 1', (x) => x >= 0 && x <= 1);
const flag = z.boolean().describe('true or false');
const oneOf = <const T extends readonly string[]>(...names: T) =>
  z.enum(names).describe(`one of ${names.join(', ')}`);
const path = (what: string) => z.string().min(1).describe(`the path of a ${what}`);

/** What a path in the config must lead to before a run starts; `output_dir` is made by the run. */
export const EXISTING_PATHS = {
  model_name_or_path: 'directory',
  tokenizer_name_or_path: 'directory',
  data_path: 'file',
  eval_data_path: 'file',
} as const;

/**
 * The keys of a run's YAML file, named and meant as in Hugging Face `TrainingArguments` and the command line of
 * Stanford Alpaca. A default is that of `TrainingArguments`, unless its comment says "recipe": then it is the one
 * of Stanford's command line, which the paper's runs follow. In paths `~` is the home directory.
 */
export const schema = z.strictObject({
  /** Directory of a LLaMA checkpoint in the Hugging Face form. This or `model_config`. Nothing is downloaded. */
  model_name_or_path: path('directory').optional(),
  /** A model from scratch: the keys of a Hugging Face `LlamaConfig`. This or `model_name_or_path`. */
  model_config: z.record(z.string(), z.unknown()).describe('a mapping of LlamaConfig keys').optional(),
  /** Directory with a `tokenizer.json`. Default: `model_name_or_path`. Rows of token ids need none. */
  tokenizer_name_or_path: path('directory').optional(),

  /** Rows to train on: JSON array or JSONL, of the Alpaca form or of token ids. */
  data_path: path('file'),
  /** Rows to evaluate on, in the same forms. Needed when `eval_strategy` is not `no`. */
  eval_data_path: path('file').optional(),
  /** Directory for checkpoints, the final model and `metrics.jsonl`. */
  output_dir: path('directory'),

  /** Longest row, in tokens, BOS and EOS included; longer ones are cut. Default 512 (recipe). */
  model_max_length: whole(2).default(512),
  /** `true`: a row of the batch is `model_max_length` tokens filled with whole examples. Default false. */
  packing: flag.default(false),
  /** Order of the examples within an epoch. Default `shuffled`, by seed and epoch. */
  data_order: oneOf('shuffled', 'sequential').default('shuffled'),
  /** Keep rows whose cut left no labelled token, at zero weight, instead of dropping them. Default false. */
  keep_unlabelled_rows: flag.default(false),

  /** Passes over the data; a fraction is allowed. Default 3. Ignored when `max_steps` is given. */
  num_train_epochs: positive.default(3),
  /** Optimizer steps in all; −1 (default): as many as `num_train_epochs` makes. */
  max_steps: number(
    'a whole number greater than 0, or -1',
    (x) => Number.isInteger(x) && (x > 0 || x === -1),
  ).default(-1),
  /** Examples in a micro-batch (with `packing`: filled rows). Default 4 (recipe). */
  per_device_train_batch_size: whole(1).default(4),
  /** Examples in a micro-batch of evaluation. Default 4 (recipe). */
  per_device_eval_batch_size: whole(1).default(4),
  /** Micro-batches in an optimizer step. Default 1. */
  gradient_accumulation_steps: whole(1).default(1),

  /** Highest learning rate. Default 2e-5 (recipe). */
  learning_rate: positive.default(2e-5),
  /** Decoupled weight decay, on everything but norms. Default 0. */
  weight_decay: notNegative.default(0),
  /** Decay of AdamW's first moment. Default 0.9. */
  adam_beta1: beta.default(0.9),
  /** Decay of AdamW's second moment. Default 0.999. */
  adam_beta2: beta.default(0.999),
  /** AdamW's epsilon, added to the root of the second moment. Default 1e-8. */
  adam_epsilon: positive.default(1e-8),
  /** Largest global 2-norm of the gradient; larger ones are scaled down. 0: no clipping. Default 1. */
  max_grad_norm: notNegative.default(1),
  /** Schedule of the learning rate. Default `cosine` (recipe); `warmup_lr` is DeepSpeed's WarmupLR. */
  lr_scheduler_type: oneOf(...SCHEDULES).default('cosine'),
  /** Warm-up as a part of all steps, rounded up to whole steps. Default 0.03 (recipe). */
  warmup_ratio: fraction.default(0.03),
  /** Warm-up in optimizer steps; above 0 it wins over `warmup_ratio`. Default 0. */
  warmup_steps: whole(0).default(0),
  /**
   * `token_mean` (default): mean over the labelled tokens of the whole accumulated batch, as in transformers today.
   * `mean_of_means`: mean over micro-batches of each one's mean over its labelled tokens, as in the paper's runs.
   */
  loss_normalization: oneOf('token_mean', 'mean_of_means').default('token_mean'),

  /** Optimizer steps between two lines of `metrics.jsonl`. Default 1 (recipe). */
  logging_steps: whole(1).default(1),
  /**
   * When to evaluate. Default `no`. `eval_loss` is the mean over all labelled tokens of `eval_data_path`, whatever the
   * batches; Hugging Face's is the mean over examples of their micro-batch's mean, which weighs tokens of short rows more
   * and changes with `per_device_eval_batch_size`. They are equal where every row has as many labels.
   */
  eval_strategy: oneOf('no', 'steps', 'epoch').default('no'),
  /** Optimizer steps between two evaluations with `eval_strategy: steps`. Default: `logging_steps`. */
  eval_steps: whole(1).optional(),
  /** When to write a checkpoint; the final model is always written. Default `steps`. */
  save_strategy: oneOf('no', 'steps', 'epoch').default('steps'),
  /** Optimizer steps between two checkpoints with `save_strategy: steps`. Default 500. */
  save_steps: whole(1).default(500),
  /** Checkpoints kept; older ones are removed once a new one is whole. Default: all. */
  save_total_limit: whole(1).optional(),

  /** Seed of new weights, of the data order and of moments that are rounded at random, 0 … 2³² − 1. Default 42. */
  seed: number(
    'a whole number from 0 to 4294967295',
    (x) => Number.isInteger(x) && x >= 0 && x < 2 ** 32,
  ).default(42),
  /**
   * bf16 weights, activations and matrix products; what bf16 leaves of a weight's float32 value is kept beside it, so that
   * updates and files are as exact as in fp32. Default false: fp32.
   */
  bf16: flag.default(false),
  /**
   * What gradients are added up in. Default `float32`; `bfloat16`, for runs with `bf16: true`, takes 2 bytes a parameter
   * less.
   */
  gradient_dtype: oneOf('float32', 'bfloat16').default('float32'),
  /** What AdamW's moments are kept in. Default `float32`; `bfloat16`, rounded at random, takes 4 bytes a parameter less. */
  optimizer_state_dtype: oneOf('float32', 'bfloat16').default('float32'),
  /**
   * `cpu`: where the device has memory of its own, moments and what bf16 leaves of the weights lie in the machine's, and
   * each update takes them over the bus: the same bytes, later. Default `none`.
   */
  optimizer_offload: oneOf('none', 'cpu').default('none'),
  /** Start a run that takes more memory than there is, which may end in its being killed. Default false. */
  skip_memory_check: flag.default(false),
  /** Recompute each block's activations in the backward pass instead of keeping them. Default false. */
  gradient_checkpointing: flag.default(false),
  /** Where to compute: a device of this build, which `tstrain doctor` names. Default `auto`: the best there is. */
  device: z.string().min(1).describe('auto or the name of a device').default('auto'),
  /** CPU threads. Default: `TSTRAIN_NUM_THREADS`, else the physical cores this process may use. */
  threads: number(THREAD_COUNT, isThreadCount).optional(),
});

/** A run's settings as its YAML file has them, or as a program gives them. */
export type Settings = z.input<typeof schema>;

/** A run's settings, defaults filled in. Keys without a default stay undefined when the file leaves them out. */
export type RunConfig = z.infer<typeof schema>;

/** The same of what is only planned: without data it is of full rows. */
type WithoutData<T extends { data_path: string; output_dir: string }> = Omit<T, 'data_path' | 'output_dir'> &
  Partial<Pick<T, 'data_path' | 'output_dir'>>;
export type PlanSettings = WithoutData<Settings>;
export type PlanConfig = WithoutData<RunConfig>;

/** The name of a config key. */
export type Key = keyof RunConfig;

/** What a key's value must be, in words. */
export function expects(key: Key): string {
  const field = schema.shape[key];
  const inner = field instanceof z.ZodOptional || field instanceof z.ZodDefault ? field.unwrap() : field;
  return (inner as z.ZodType).description!;
}

/** A run's settings as YAML text that reads back to the same settings. */
export function renderConfig(config: RunConfig): string {
  return stringify(config, { lineWidth: 0, keepUndefined: false });
}
