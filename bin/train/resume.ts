import { newestWholeCheckpoint } from '../../engine/checkpoint/directory.js';
import { toHfConfig } from '../../engine/model/config.js';
import { readTrainerState, type TrainerState } from '../../engine/train/checkpoint.js';
import { UserError } from '../../errors.js';
import type { RunConfig } from '../config.js';
import type { PreparedRun } from '../prepare.js';

/** Settings that a continuation depends on: another value would make it another run. */
const FIXED = [
  'model_max_length',
  'packing',
  'data_order',
  'keep_unlabelled_rows',
  'per_device_train_batch_size',
  'gradient_accumulation_steps',
  'loss_normalization',
  'seed',
  'bf16',
] as const satisfies readonly (keyof RunConfig)[];

/** Settings that may change between a checkpoint and its continuation, and change what it computes: reported. */
const REPORTED = [
  'num_train_epochs',
  'max_steps',
  'learning_rate',
  'weight_decay',
  'adam_beta1',
  'adam_beta2',
  'adam_epsilon',
  'max_grad_norm',
  'lr_scheduler_type',
  'warmup_ratio',
  'warmup_steps',
] as const satisfies readonly (keyof RunConfig)[];

export interface ResumePoint {
  path: string;
  state: TrainerState;
}

/** The newest whole checkpoint of a run; `say` hears which were skipped, and why. */
export async function findResumePoint(outputDir: string, say: (line: string) => void): Promise<ResumePoint> {
  const { checkpoint, skipped } = await newestWholeCheckpoint(outputDir);
  for (const { path, why } of skipped) say(`${path} is skipped: ${why}`);
  if (!checkpoint)
    throw new UserError(
      `${outputDir}: there is no whole checkpoint to resume from; start without --resume` +
        (skipped.length > 0 ? ' in another output_dir' : ''),
    );
  return { path: checkpoint.path, state: await readTrainerState(checkpoint.path) };
}

/**
 * Refuses a continuation that would be another run, naming the key, and tells what else is different.
 *
 * @throws UserError for changed data, model, batch, seed or precision
 */
export function checkResume(
  { path, state }: ResumePoint,
  { config, model, dataset }: PreparedRun,
  machine: TrainerState['machine'],
  say: (line: string) => void,
): void {
  const refuse = (key: string, was: unknown, is: unknown) =>
    new UserError(
      `--resume: ${key} is ${JSON.stringify(is)}, but ${path} was made with ${JSON.stringify(was)}; ` +
        'set it back, or start a new run in another output_dir',
    );
  for (const key of FIXED)
    if (config[key] !== state.config[key]) throw refuse(key, state.config[key], config[key]);
  if (JSON.stringify(toHfConfig(model)) !== JSON.stringify(state.model))
    throw new UserError(
      `--resume: the model's config differs from that of ${path}; set model_name_or_path or model_config back, or ` +
        'start a new run in another output_dir',
    );
  if (dataset.hash !== state.data_hash)
    throw new UserError(
      `--resume: data_path ${config.data_path} no longer holds the rows that ${path} was trained on; ` +
        'put them back (the tokenizer counts too), or start a new run in another output_dir',
    );
  for (const key of REPORTED)
    if (config[key] !== state.config[key])
      say(`changed since ${path}: ${key} was ${state.config[key]}, is ${config[key]}`);
  for (const key of Object.keys(machine) as (keyof typeof machine)[])
    if (machine[key] !== state.machine[key])
      say(
        `changed since ${path}: ${key} was ${state.machine[key] || 'none'}, is ${machine[key] || 'none'}; ` +
          'the run goes on, but not bit for bit as it would have',
      );
}
