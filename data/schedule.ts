import type { Dataset } from './dataset.js';
import { type EpochSchedule, epochSchedule, type ScheduleOptions } from './pack.js';

export interface RunOptions extends ScheduleOptions {
  /** May be fractional; counts only when `maxSteps` is 0 or less. */
  numTrainEpochs: number;
  /** > 0: exactly so many steps, over as many epochs as they need. */
  maxSteps: number;
}

/** One optimizer step of a run. */
export interface ScheduledStep {
  /** From 0 over the whole run. */
  step: number;
  /** From 0. */
  epoch: number;
  /** The micro-batches to accumulate, as indices of examples. */
  microBatches: Int32Array[];
  /** Epochs done after this step, as a fraction: micro-batches done over those of the epoch, as HF logs it. */
  epochsDone: number;
  /** Whether the epoch's data ends with this step. */
  endsEpoch: boolean;
}

/** All steps of a run, known before the first. Epochs are computed when they are needed. */
export interface RunSchedule {
  totalSteps: number;
  /** Epochs begun, the last perhaps not ended. */
  epochs: number;
  epoch(epoch: number): EpochSchedule;
  /** The steps from `firstStep` (default 0) to the end of the run. */
  steps(firstStep?: number): Generator<ScheduledStep>;
}

/**
 * The steps of a run, as HF Trainer counts them: `max_steps` when it is > 0, else
 * ceil(num_train_epochs × steps of an epoch), where a short last group of an epoch is a step of its own.
 * When packing, the epochs differ in length: whole epochs count in full and a last, fractional one is rounded up.
 */
export function runSchedule(lengths: Int32Array, options: RunOptions): RunSchedule {
  if (lengths.length === 0) throw new RangeError('a run needs at least one example.');
  let latest: { epoch: number; schedule: EpochSchedule } | undefined;
  const epoch = (number: number): EpochSchedule => {
    if (latest?.epoch !== number)
      latest = { epoch: number, schedule: epochSchedule(lengths, { ...options, epoch: number }) };
    return latest.schedule;
  };

  const fixed = !options.packing || options.dataOrder === 'sequential';
  const counts: number[] = [];
  const stepsOf = (number: number): number => {
    if (fixed) return (counts[0] ??= epoch(0).steps);
    return (counts[number] ??= epoch(number).steps);
  };

  let totalSteps = 0;
  let epochs = 0;
  if (options.maxSteps > 0) {
    totalSteps = options.maxSteps;
    for (let steps = 0; steps < totalSteps; steps += stepsOf(epochs++));
  } else {
    const whole = Math.floor(options.numTrainEpochs);
    for (; epochs < whole; epochs++) totalSteps += stepsOf(epochs);
    if (options.numTrainEpochs > whole) {
      // Rounded as HF rounds the whole product: 2.1 epochs of 10 steps are 21, while 0.1 of 10, taken as the
      // rest of 2.1, would round up to 2.
      const steps = stepsOf(epochs++);
      totalSteps += Math.ceil(options.numTrainEpochs * steps) - whole * steps;
    }
  }

  function* steps(firstStep = 0): Generator<ScheduledStep> {
    let step = 0;
    for (let number = 0; step < totalSteps; number++) {
      if (step + stepsOf(number) <= firstStep) {
        step += stepsOf(number);
        continue;
      }
      const { microBatches } = epoch(number);
      for (let start = 0; start < microBatches.length && step < totalSteps; step++) {
        const end = Math.min(start + options.gradientAccumulationSteps, microBatches.length);
        if (step >= firstStep)
          yield {
            step,
            epoch: number,
            microBatches: microBatches.slice(start, end),
            epochsDone: number + end / microBatches.length,
            endsEpoch: end === microBatches.length,
          };
        start = end;
      }
    }
  }

  return { totalSteps, epochs, epoch, steps };
}

/** What a run will take in, known before its first step. */
export interface RunTotals {
  microBatches: number;
  /** Tokens and labelled tokens over all steps. */
  tokens: number;
  labelTokens: number;
  /** The (first) micro-batch with the most tokens, as indices of examples. */
  largest: Int32Array;
}

/** Walks all micro-batches of a run's steps, or of an epoch, by lengths alone. */
export function measureRun(
  steps: Iterable<{ microBatches: readonly Int32Array[] }>,
  { lengths, labelCounts }: Pick<Dataset, 'lengths' | 'labelCounts'>,
): RunTotals {
  const totals: RunTotals = {
    microBatches: 0,
    tokens: 0,
    labelTokens: 0,
    largest: new Int32Array(0),
  };
  let most = 0;
  for (const { microBatches } of steps)
    for (const indices of microBatches) {
      let tokens = 0;
      let labelTokens = 0;
      for (const index of indices) {
        tokens += lengths[index];
        labelTokens += labelCounts[index];
      }
      totals.microBatches++;
      totals.tokens += tokens;
      totals.labelTokens += labelTokens;
      if (tokens > most) [totals.largest, most] = [indices, tokens];
    }
  return totals;
}
