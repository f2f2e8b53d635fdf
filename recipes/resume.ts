import { addon } from '../engine/device/addon.js';
import { toHfConfig } from '../engine/model/config.js';
import { newestRunState, type RunState, type TrainerState } from '../engine/train/checkpoint.js';
import { UserError } from '../errors.js';
import type { PreparedRun } from './prepare.js';
import type { RunConfig } from './settings.js';

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
  'gradient_dtype',
  'optimizer_state_dtype',
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

/** What checkpoints were made with that are older than a key. */
const BEFORE_THE_KEY: Record<string, unknown> = {
  gradient_dtype: 'float32',
  optimizer_state_dtype: 'float32',
} satisfies Partial<RunConfig>;

/** The newest whole checkpoint of a run; `say` hears which were skipped, and why. */
export async function findResumePoint(outputDir: string, say: (line: string) => void): Promise<RunState> {
  const { found, skipped } = await newestRunState(outputDir);
  for (const { path, why } of skipped) say(`${path} is skipped: ${why}`);
  if (!found)
    throw new UserError(
      `${outputDir}: there is no whole checkpoint to resume from; start without --resume` +
        (skipped.length > 0 ? ' in another output_dir' : ''),
    );
  return found;
}

/**
 * Refuses a continuation that would be another run, naming the key, and tells what else is different. The device goes on
 * with what it had chosen.
 *
 * @throws UserError for changed data, model, batch, seed or precision, and for a run that is to end before it goes on
 */
export function checkResume(
  { path, state }: RunState,
  { config, model, dataset, schedule, device }: PreparedRun,
  machine: TrainerState['machine'],
  say: (line: string) => void,
): void {
  const refuse = (key: string, was: unknown, is: unknown) =>
    new UserError(
      `--resume: ${key} is ${JSON.stringify(is)}, but ${path} was made with ${JSON.stringify(was)}; ` +
        'set it back, or start a new run in another output_dir',
    );
  const before = { ...BEFORE_THE_KEY, ...state.config };
  for (const key of FIXED) if (config[key] !== before[key]) throw refuse(key, before[key], config[key]);
  // What the config says of the model, not what else was in its file. Special ids change nothing of what is computed.
  for (const [key, is] of Object.entries(toHfConfig({ ...model, raw: {} })))
    if (!key.endsWith('_token_id') && JSON.stringify(is) !== JSON.stringify(state.model[key]))
      throw refuse(`the model's ${key}`, state.model[key], is);
  if (dataset.hash !== state.data_hash)
    throw new UserError(
      `--resume: data_path ${config.data_path} no longer holds the rows that ${path} was trained on; ` +
        'put them back (the tokenizer counts too), or start a new run in another output_dir',
    );
  if (state.step > schedule.totalSteps)
    throw new UserError(
      `--resume: ${path} has done ${state.step} steps, and ${config.max_steps > 0 ? 'max_steps' : 'num_train_epochs'} ` +
        `makes ${schedule.totalSteps} in all; raise it, or start a new run in another output_dir`,
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
  if (state.chosen && !addon.choose(device, state.chosen)) {
    const [was, is] = [state.chosen, addon.chosen(device) || device].map((text) => text.split('\n', 1)[0]);
    say(
      `changed since ${path}: products were made by ${was}, are made by ${is}; the run goes on, but they may round ` +
        'differently',
    );
  }
}
