import { UserError } from '../../errors.js';
import type { MicroBatch } from '../model/device_batch.js';
import type { LlamaForCausalLM } from '../model/llama.js';
import type { Gradients } from '../model/parameters.js';
import { sum, sumSquares } from '../ops/reduce.js';
import type { AdamW } from '../optim/adamw.js';
import { clipFactor, globalNorm } from '../optim/clip.js';
import { learningRateAt, type Schedule } from '../optim/schedule.js';
import type { EvalLine, LineSums, TrainLine } from './metrics.js';

/** A micro-batch as the loop takes it: also which rows it holds, for messages, and how many labels. */
export interface TrainingBatch extends MicroBatch {
  /** Row numbers in the data file. */
  rows: Int32Array;
  labelTokens: number;
}

/** One optimizer step: the micro-batches to accumulate. */
export interface TrainingStep {
  /** From 0 over the whole run. */
  step: number;
  /** Epochs done after this step, as a fraction. */
  epochsDone: number;
  endsEpoch: boolean;
  batches: readonly TrainingBatch[];
}

export interface TrainingOptions {
  schedule: Schedule;
  maxGradNorm: number;
  /**
   * `token_mean`: mean over the labelled tokens of the whole accumulated batch. `mean_of_means`: each micro-batch's
   * mean over its labelled tokens, averaged; one without labels adds 0 but counts.
   */
  lossNormalization: 'token_mean' | 'mean_of_means';
  gradientCheckpointing: boolean;
  loggingSteps: number;
  /** Steps between evaluations, `epoch`, or `no`; likewise for checkpoints. */
  evaluateEvery: number | 'epoch' | 'no';
  saveEvery: number | 'epoch' | 'no';
}

/** What the loop tells the outside, and asks of it. */
export interface TrainingHooks {
  log(line: TrainLine | EvalLine): void;
  /** The loss on held-out data, or undefined when the user asked to stop at once. */
  evaluate(): Promise<number | undefined>;
  /** Writes a checkpoint of the state after `step` steps, `sinceLine` being part of it. */
  save(step: number, sinceLine: LineSums): Promise<void>;
  /** After every step; the loss is the step's own. */
  progress(step: number, loss: number): void;
  /** What the user has asked for by now: to stop after the step (and save), or at once. */
  stopRequested(): 'after_step' | 'now' | undefined;
}

export interface TrainingRun {
  model: LlamaForCausalLM;
  gradients: Gradients;
  optimizer: AdamW;
  /** Steps still to do, the first being `schedule`'s step of its number. */
  steps: Iterable<TrainingStep>;
  /** What the checkpoint that a resumed run starts from kept. */
  sinceLine?: LineSums;
  options: TrainingOptions;
  hooks: TrainingHooks;
}

/** How a run ended: all steps done, or stopped on request after `step` steps, saved or not. */
export type TrainingEnd = { outcome: 'finished' | 'stopped_and_saved' | 'stopped_at_once'; step: number };

/** Trains: batches → forward and backward, accumulated → clip → update → log → evaluate → save. */
export async function train({
  model,
  gradients,
  optimizer,
  steps,
  sinceLine = nothing(),
  options,
  hooks,
}: TrainingRun): Promise<TrainingEnd> {
  const { schedule } = options;
  let sums = sinceLine;
  let done = 0;
  let savedAt = -1;

  for (const { step, batches, epochsDone, endsEpoch } of steps) {
    const started = performance.now();
    gradients.zero();
    const losses = await accumulate(model, gradients, batches, options, hooks);
    if (losses === undefined) return { outcome: 'stopped_at_once', step };
    const loss = losses.reduce((sum, x) => sum + x, 0);

    const gradNorm = globalNorm(gradients.flat);
    if (!Number.isFinite(loss) || !Number.isFinite(gradNorm))
      throw notFinite(step + 1, losses, batches, gradients);

    const learningRate = learningRateAt(schedule, step);
    const scale = clipFactor(gradNorm, options.maxGradNorm);
    optimizer.step(step + 1, learningRate, gradients, scale);

    done = step + 1;
    sums = added(sums, loss, batches, performance.now() - started);
    hooks.progress(done, loss);
    const last = done === schedule.totalSteps;
    if (done % options.loggingSteps === 0 || last) {
      hooks.log({
        step: done,
        epoch: epochsDone,
        ...summary(sums),
        grad_norm: gradNorm,
        learning_rate: learningRate,
      });
      sums = nothing();
    }
    // A run may end within an epoch; what is due at the end of an epoch is due then too.
    const endsPass = endsEpoch || last;
    if (isDue(options.evaluateEvery, done, endsPass)) {
      const evalLoss = await hooks.evaluate();
      if (evalLoss === undefined) return { outcome: 'stopped_at_once', step: done };
      hooks.log({ step: done, epoch: epochsDone, eval_loss: evalLoss });
    }
    if (isDue(options.saveEvery, done, endsPass)) {
      await hooks.save(done, sums);
      savedAt = done;
    }
    const stop = hooks.stopRequested();
    if (stop !== undefined && !last) {
      if (stop === 'after_step' && savedAt !== done) {
        await hooks.save(done, sums);
        savedAt = done;
      }
      return { outcome: savedAt === done ? 'stopped_and_saved' : 'stopped_at_once', step: done };
    }
  }
  return { outcome: 'finished', step: done };
}

/**
 * Adds the gradients of a step's micro-batches up. Returns what each adds to the step's loss, or undefined when the
 * user asked to stop at once: the event loop runs between micro-batches, so that signals are heard.
 */
async function accumulate(
  model: LlamaForCausalLM,
  gradients: Gradients,
  batches: readonly TrainingBatch[],
  { lossNormalization, gradientCheckpointing }: TrainingOptions,
  hooks: TrainingHooks,
): Promise<number[] | undefined> {
  const stepLabels = batches.reduce((sum, batch) => sum + batch.labelTokens, 0);
  const losses: number[] = [];
  for (const batch of batches) {
    const share = lossNormalization === 'token_mean' ? stepLabels : batch.labelTokens * batches.length;
    const weight = share > 0 ? 1 / share : 0;
    const loss = model.forwardBackward(batch, weight, gradients, { gradientCheckpointing });
    losses.push(weight * sum(loss));
    loss.dispose();
    await new Promise(setImmediate);
    if (hooks.stopRequested() === 'now') return undefined;
  }
  return losses;
}

/**
 * Mean loss per labelled token over batches, without gradients; undefined when the user asked to stop at once.
 * @throws UserError naming the rows when a loss is not finite
 */
export async function evaluate(
  model: LlamaForCausalLM,
  batches: Iterable<TrainingBatch>,
  stopRequested: TrainingHooks['stopRequested'],
): Promise<number | undefined> {
  let sum = 0;
  let tokens = 0;
  for (const batch of batches) {
    if (batch.labelTokens === 0) continue;
    for (const loss of model.losses(batch)) sum += loss;
    if (!Number.isFinite(sum))
      throw new UserError(
        `evaluation: the loss is ${sum} (rows ${shownRows([batch])} of eval_data_path): the weights have grown too ` +
          'large. Checkpoints saved earlier are whole; a lower learning_rate or a longer warm-up is where to start',
      );
    tokens += batch.labelTokens;
    await new Promise(setImmediate);
    if (stopRequested() === 'now') return undefined;
  }
  return sum / tokens;
}

function isDue(every: number | 'epoch' | 'no', step: number, endsPass: boolean): boolean {
  return every === 'epoch' ? endsPass : every !== 'no' && step % every === 0;
}

function nothing(): LineSums {
  return { steps: 0, loss: 0, tokens: 0, label_tokens: 0, milliseconds: 0 };
}

/** The sums with one more step. */
function added(
  sums: LineSums,
  loss: number,
  batches: readonly TrainingBatch[],
  milliseconds: number,
): LineSums {
  return {
    steps: sums.steps + 1,
    loss: sums.loss + loss,
    tokens: batches.reduce((sum, batch) => sum + batch.ids.length, sums.tokens),
    label_tokens: batches.reduce((sum, batch) => sum + batch.labelTokens, sums.label_tokens),
    milliseconds: sums.milliseconds + milliseconds,
  };
}

function summary({ steps, loss, tokens, label_tokens, milliseconds }: LineSums) {
  return {
    loss: loss / steps,
    tokens,
    label_tokens,
    tokens_per_second: tokens / (milliseconds / 1000),
    step_time_ms: milliseconds / steps,
  };
}

/** Names what went wrong before anything is updated: the weights and the last checkpoint are as they were. */
function notFinite(
  step: number,
  losses: readonly number[],
  batches: readonly TrainingBatch[],
  gradients: Gradients,
): UserError {
  const loss = losses.reduce((sum, x) => sum + x, 0);
  const wrong = batches.filter((_, i) => !Number.isFinite(losses[i]));
  const bad = gradients.parameters.entries.find(({ trainable, offset, size }) => {
    if (!trainable) return false;
    const part = gradients.flat.view([size], offset);
    const squares = sumSquares(part);
    part.dispose();
    return !Number.isFinite(squares);
  });
  const rows = shownRows(wrong.length > 0 ? wrong : batches);
  const where = bad ? `; the first gradient that is not finite is that of ${bad.name}` : '';
  return new UserError(
    `step ${step}: the loss is ${loss}${where} (rows ${rows}). The weights were not updated, and checkpoints saved ` +
      'earlier are whole. A lower learning_rate or max_grad_norm, a longer warm-up, or those rows are where to look',
  );
}

function shownRows(batches: readonly TrainingBatch[]): string {
  const rows = batches.flatMap((batch) => [...batch.rows]);
  return rows.slice(0, 8).join(', ') + (rows.length > 8 ? ` and ${rows.length - 8} more` : '');
}
