import type { TrainingBatch } from '../../batch.js';
import { UserError } from '../../errors.js';
import { type NativeTensor, release } from '../device/native_tensor.js';
import type { Gradients } from '../model/parameters.js';
import { sumSquares } from '../ops/reduce.js';
import type { AdamW } from '../optim/adamw.js';
import { learningRateAt, type Schedule } from '../optim/schedule.js';
import type { EvalLine, EvalMeans, LineSums, TrainLine } from './metrics.js';
import type { Objective } from './objective.js';
import { StepRecord, type StepResult } from './step_record.js';

/** One optimizer step: the micro-batches to accumulate. */
export interface TrainingStep<Batch extends TrainingBatch = TrainingBatch> {
  /** From 0 over the whole run. */
  step: number;
  /** Epochs done after this step, as a fraction. */
  epochsDone: number;
  endsEpoch: boolean;
  batches: readonly Batch[];
}

export interface TrainingOptions {
  schedule: Schedule;
  maxGradNorm: number;
  /**
   * `token_mean`: mean over the terms (labelled tokens) of the whole accumulated batch. `mean_of_means`: each
   * micro-batch's mean over its terms, averaged; one without any adds 0 but counts.
   */
  lossNormalization: 'token_mean' | 'mean_of_means';
  loggingSteps: number;
  /** Steps between evaluations, `epoch`, or `no`; likewise for checkpoints. */
  evaluateEvery: number | 'epoch' | 'no';
  saveEvery: number | 'epoch' | 'no';
}

/** What the loop tells the outside, and asks of it. */
export interface TrainingHooks {
  log(line: TrainLine | EvalLine): void;
  /** Means over held-out data, or undefined when the user asked to stop at once. */
  evaluate(): Promise<EvalMeans | undefined>;
  /**
   * Writes a checkpoint of the state after `step` steps, `sinceLine` being part of it; false when the user asked to stop
   * at once, and there is none.
   */
  save(step: number, sinceLine: LineSums): Promise<boolean>;
  /** After every step; the loss is that of the last step the host has looked at. */
  progress(step: number, loss: number | undefined): void;
  /** What the user has asked for by now: to stop after the step (and save), or at once. */
  stopRequested(): 'after_step' | 'now' | undefined;
}

export interface TrainingRun<Batch extends TrainingBatch> {
  objective: Objective<Batch>;
  gradients: Gradients;
  optimizer: AdamW;
  /** Steps still to do, the first being `schedule`'s step of its number. */
  steps: Iterable<TrainingStep<Batch>>;
  /** What the checkpoint that a resumed run starts from kept. */
  sinceLine?: LineSums;
  options: TrainingOptions;
  hooks: TrainingHooks;
}

/**
 * How a run ended: all steps done, or stopped on request after `step` steps, saved or not. `loss` is that of the last
 * step the host has looked at.
 */
export type TrainingEnd = {
  outcome: 'finished' | 'stopped_and_saved' | 'stopped_at_once';
  step: number;
  loss: number | undefined;
};

/** Trains: batches → forward and backward, accumulated → clip → update → log → evaluate → save. */
export async function train<Batch extends TrainingBatch>({
  objective,
  gradients,
  optimizer,
  steps,
  sinceLine = nothing(),
  options,
  hooks,
}: TrainingRun<Batch>): Promise<TrainingEnd> {
  const { schedule } = options;
  const record = new StepRecord(gradients.flat.device, 1 + objective.measures.length);
  let sums = sinceLine;
  let done = 0;
  let savedAt = -1;
  let latest: StepResult | undefined;
  /** Reads what the steps have left on the device, the only place where the loop waits for it. */
  const look = () => {
    const started = performance.now();
    for (const result of record.look()) {
      checkFinite(result, result.step === done ? gradients : undefined);
      sums = withLoss(sums, result, objective.measures);
      latest = result;
    }
    sums = { ...sums, milliseconds: sums.milliseconds + performance.now() - started };
  };
  const ended = (outcome: TrainingEnd['outcome'], step = done) => ({
    outcome,
    step,
    loss: latest && lossOf(latest),
  });

  try {
    for (const { step, batches, epochsDone, endsEpoch } of steps) {
      if (!record.hasRoom(batches.length)) look();
      const started = performance.now();
      gradients.zero();
      const weights = weightsOf(batches, objective, options);
      const learningRate = learningRateAt(schedule, step);
      const { squares, sums: lossSums } = record.begin(
        step + 1,
        batches.map(({ rows }, i) => ({ weight: weights[i], rows })),
      );
      let accumulated: boolean;
      try {
        accumulated = await accumulate(objective, gradients, batches, weights, lossSums, hooks);
        if (accumulated) {
          optimizer.step(step + 1, learningRate, gradients, {
            maxGradNorm: options.maxGradNorm,
            squares,
            losses: lossSums,
          });
        }
      } finally {
        release(squares, lossSums);
      }
      if (!accumulated) return ended('stopped_at_once', step);

      done = step + 1;
      sums = withStep(sums, batches, performance.now() - started);
      const last = done === schedule.totalSteps;
      // A run may end within an epoch; what is due at the end of an epoch is due then too.
      const endsPass = endsEpoch || last;
      const logs = done % options.loggingSteps === 0 || last;
      const evaluates = isDue(options.evaluateEvery, done, endsPass);
      const saves = isDue(options.saveEvery, done, endsPass);
      if (logs || evaluates || saves) look();
      hooks.progress(done, latest && lossOf(latest));
      if (logs) {
        hooks.log({
          step: done,
          epoch: epochsDone,
          ...summary(sums),
          grad_norm: latest!.gradNorm,
          learning_rate: learningRate,
        });
        sums = nothing();
      }
      if (evaluates) {
        const means = await hooks.evaluate();
        if (means === undefined) return ended('stopped_at_once');
        hooks.log({ step: done, epoch: epochsDone, ...means });
      }
      if (saves) {
        if (!(await hooks.save(done, sums))) return ended('stopped_at_once');
        savedAt = done;
      }
      const stop = hooks.stopRequested();
      if (stop !== undefined && !last) {
        if (stop === 'after_step' && savedAt !== done) {
          look();
          if (!(await hooks.save(done, sums))) return ended('stopped_at_once');
          savedAt = done;
        }
        return ended(savedAt === done ? 'stopped_and_saved' : 'stopped_at_once');
      }
    }
    look();
    return ended('finished');
  } finally {
    record.dispose();
  }
}

/** What a term of each micro-batch counts in the mean of the step. */
function weightsOf<Batch extends TrainingBatch>(
  batches: readonly Batch[],
  objective: Objective<Batch>,
  { lossNormalization }: TrainingOptions,
): number[] {
  const terms = batches.map((batch) => objective.terms(batch));
  const ofStep = terms.reduce((sum, n) => sum + n, 0);
  return terms.map((n) => {
    const share = lossNormalization === 'token_mean' ? ofStep : n * batches.length;
    return share > 0 ? 1 / share : 0;
  });
}

/**
 * Adds the gradients of a step's micro-batches up, their sums going to `sums` [batches, …]. False when the user asked
 * to stop at once: the event loop runs between micro-batches, so that signals are heard.
 */
async function accumulate<Batch extends TrainingBatch>(
  objective: Objective<Batch>,
  gradients: Gradients,
  batches: readonly Batch[],
  weights: readonly number[],
  sums: NativeTensor,
  hooks: TrainingHooks,
): Promise<boolean> {
  const [, width] = sums.shape;
  for (const [i, batch] of batches.entries()) {
    const own = sums.view([width], i * width);
    try {
      objective.forwardBackward(batch, weights[i], gradients, own);
    } finally {
      own.dispose();
    }
    await signalsHeard();
    if (hooks.stopRequested() === 'now') return false;
  }
  return true;
}

/**
 * Until the event loop has looked for signals. The first immediate may come in the very round that this is called in,
 * behind the place where it looks: a signal of one micro-batch would be heard after the next.
 */
async function signalsHeard(): Promise<void> {
  await new Promise(setImmediate);
  await new Promise(setImmediate);
}

/**
 * Means over the terms of held-out batches, of the loss and of what the objective measures, without gradients;
 * undefined when the user asked to stop at once.
 * @throws UserError naming the rows when a loss is not finite
 */
export async function evaluate<Batch extends TrainingBatch>(
  objective: Objective<Batch>,
  batches: Iterable<Batch>,
  stopRequested: TrainingHooks['stopRequested'],
): Promise<EvalMeans | undefined> {
  const sums = [0, ...objective.measures.map(() => 0)];
  let terms = 0;
  for (const batch of batches) {
    if (objective.terms(batch) === 0) continue;
    for (const [i, values] of objective.evaluate(batch).entries())
      for (let j = 0; j < values.length; j++) sums[i] += values[j];
    if (!Number.isFinite(sums[0]))
      throw new UserError(
        `evaluation: the loss is ${sums[0]} (rows ${shownRows([batch.rows])} of eval_data_path): the weights have grown ` +
          'too large. Checkpoints saved earlier are whole; a lower learning_rate or a longer warm-up is where to start',
      );
    terms += objective.terms(batch);
    await signalsHeard();
    if (stopRequested() === 'now') return undefined;
  }
  const [loss, ...measures] = sums.map((sum) => sum / terms);
  return {
    eval_loss: loss,
    ...Object.fromEntries(objective.measures.map((name, i) => [`eval_${name}`, measures[i]])),
  };
}

function isDue(every: number | 'epoch' | 'no', step: number, endsPass: boolean): boolean {
  return every === 'epoch' ? endsPass : every !== 'no' && step % every === 0;
}

function nothing(): LineSums {
  return { steps: 0, loss: 0, tokens: 0, label_tokens: 0, milliseconds: 0, measures: {} };
}

/** The sums with one more step, of whose losses the host knows nothing yet. */
function withStep(sums: LineSums, batches: readonly TrainingBatch[], milliseconds: number): LineSums {
  return {
    ...sums,
    steps: sums.steps + 1,
    tokens: batches.reduce((sum, batch) => sum + batch.ids.length, sums.tokens),
    label_tokens: batches.reduce((sum, batch) => sum + batch.labelTokens, sums.label_tokens),
    milliseconds: sums.milliseconds + milliseconds,
  };
}

/** The sums with the means of a step that the host has looked at. */
function withLoss(sums: LineSums, result: StepResult, measures: readonly string[]): LineSums {
  return {
    ...sums,
    loss: sums.loss + lossOf(result),
    measures: Object.fromEntries(
      measures.map((name, i) => [name, (sums.measures[name] ?? 0) + meanOf(result, i + 1)]),
    ),
  };
}

function lossOf(result: StepResult): number {
  return meanOf(result, 0);
}

/** The step's mean of the loss (0) or of a measure (1 …), over all its micro-batches. */
function meanOf({ means }: StepResult, i: number): number {
  return means.reduce((sum, batch) => sum + batch[i], 0);
}

function summary({ steps, loss, tokens, label_tokens, milliseconds, measures }: LineSums) {
  return {
    loss: loss / steps,
    ...Object.fromEntries(Object.entries(measures).map(([name, sum]) => [name, sum / steps])),
    tokens,
    label_tokens,
    tokens_per_second: tokens / (milliseconds / 1000),
    step_time_ms: milliseconds / steps,
  };
}

/**
 * Names what went wrong. Nothing was updated at that step or since: the weights and the last checkpoint are as they
 * were. `gradients`: while they are still those of the step.
 */
function checkFinite(result: StepResult, gradients: Gradients | undefined): void {
  const loss = lossOf(result);
  if (Number.isFinite(loss) && Number.isFinite(result.gradNorm)) return;
  const wrong = result.rows.filter((_, i) => !Number.isFinite(result.means[i][0]));
  const bad = gradients?.parameters.entries.find(({ trainable, offset, size }) => {
    if (!trainable) return false;
    const part = gradients.flat.view([size], offset);
    const squares = sumSquares(part);
    part.dispose();
    return !Number.isFinite(squares);
  });
  const rows = shownRows(wrong.length > 0 ? wrong : result.rows);
  const where = bad ? `; the first gradient that is not finite is that of ${bad.name}` : '';
  throw new UserError(
    `step ${result.step}: the loss is ${loss}${where} (rows ${rows}). The weights were not updated, and checkpoints ` +
      'saved earlier are whole. A lower learning_rate or max_grad_norm, a longer warm-up, or those rows are where to look',
  );
}

function shownRows(batches: readonly Int32Array[]): string {
  const rows = batches.flatMap((batch) => [...batch]);
  return rows.slice(0, 8).join(', ') + (rows.length > 8 ? ` and ${rows.length - 8} more` : '');
}
