import { UserError } from '../errors.js';
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
  /**
   * Epochs begun, the last perhaps not ended. Of a run by `maxSteps` that packs more epochs than are counted, what it is
   * by those that are.
   */
  epochs: number;
  epoch(epoch: number): EpochSchedule;
  /** The epoch that a step belongs to. */
  epochOf(step: number): number;
  /** The steps in the first so many epochs. */
  stepsIn(epochs: number): number;
  /** The steps from `firstStep` (default 0) to `endStep` (default: the end of the run), that one not included. */
  steps(firstStep?: number, endStep?: number): Generator<ScheduledStep>;
}

/**
 * Packed epochs are counted until they have gone through so many examples, at about a million a second: of a run by
 * epochs, which needs them all, and of one by steps, which can do without.
 */
const COUNTED_EXAMPLES = { byEpochs: 2e8, bySteps: 1e7 };
/** An epoch of few examples takes as long as so many. */
const EXAMPLES_AN_EPOCH = 500;

/**
 * The steps of a run, as HF Trainer counts them: `max_steps` when it is > 0, else
 * ceil(num_train_epochs × steps of an epoch), where a short last group of an epoch is a step of its own.
 * When packing, the epochs differ in length: whole epochs count in full and a last, fractional one is rounded up.
 * To count these, each is packed: that is why this is asynchronous, so that signals are heard meanwhile.
 *
 * @throws UserError when there are more steps, or more epochs to pack, than can be counted
 */
export async function runSchedule(lengths: Int32Array, options: RunOptions): Promise<RunSchedule> {
  if (lengths.length === 0) throw new RangeError('a run needs at least one example.');
  let latest: { epoch: number; schedule: EpochSchedule } | undefined;
  const epoch = (number: number): EpochSchedule => {
    if (latest?.epoch !== number)
      latest = { epoch: number, schedule: epochSchedule(lengths, { ...options, epoch: number }) };
    return latest.schedule;
  };

  const areEqual = !options.packing || options.dataOrder === 'sequential';
  /** The steps before each epoch, as far as they are counted. */
  const counted = [0, epoch(0).steps];
  const startOf = (number: number): number => {
    if (areEqual) return number * counted[1];
    while (counted.length <= number)
      counted.push(counted[counted.length - 1] + epoch(counted.length - 1).steps);
    return counted[number];
  };
  const epochOf = (step: number): number => {
    if (areEqual) return Math.floor(step / counted[1]);
    let number = 0;
    while (startOf(number + 1) <= step) number++;
    return number;
  };
  /** Counts epochs while `goesOn`, with pauses; returns how many there are then. */
  const count = async (goesOn: (epochs: number) => boolean): Promise<number> => {
    let number = 0;
    for (; goesOn(number); number++) {
      startOf(number + 1);
      await new Promise(setImmediate);
    }
    return number;
  };
  const countable = (examples: number) =>
    areEqual ? Number.POSITIVE_INFINITY : Math.ceil(examples / (lengths.length + EXAMPLES_AN_EPOCH));

  const { maxSteps, numTrainEpochs } = options;
  let totalSteps: number;
  let epochs: number;
  if (maxSteps > 0) {
    totalSteps = maxSteps;
    if (areEqual) epochs = Math.ceil(totalSteps / counted[1]);
    else {
      const most = countable(COUNTED_EXAMPLES.bySteps);
      epochs = await count((number) => number < most && startOf(number) < totalSteps);
      if (startOf(epochs) < totalSteps) epochs = Math.ceil((totalSteps * epochs) / startOf(epochs));
    }
  } else {
    const whole = Math.floor(numTrainEpochs);
    epochs = Math.ceil(numTrainEpochs);
    const most = countable(COUNTED_EXAMPLES.byEpochs);
    if (epochs > most)
      throw new UserError(
        `num_train_epochs is ${numTrainEpochs}: with packing each epoch makes steps of its own, and of ${lengths.length} ` +
          `examples no more than ${most} epochs are packed to count them; give max_steps`,
      );
    if (!areEqual) await count((number) => number < epochs);
    totalSteps = startOf(whole);
    if (numTrainEpochs > whole) {
      // Rounded as HF rounds the whole product: 2.1 epochs of 10 steps are 21, while 0.1 of 10, taken as the
      // rest of 2.1, would round up to 2.
      const steps = startOf(whole + 1) - startOf(whole);
      totalSteps += Math.ceil(numTrainEpochs * steps) - whole * steps;
    }
  }
  if (!Number.isSafeInteger(totalSteps))
    throw new UserError(
      `${maxSteps > 0 ? `max_steps is ${maxSteps}` : `num_train_epochs is ${numTrainEpochs}`}: that makes more steps than ` +
        `can be counted (${Number.MAX_SAFE_INTEGER})`,
    );

  function* steps(firstStep = 0, endStep = totalSteps): Generator<ScheduledStep> {
    if (firstStep >= endStep) return;
    const { gradientAccumulationSteps: size } = options;
    let step = firstStep;
    for (let number = epochOf(firstStep); step < endStep; number++) {
      const { microBatches } = epoch(number);
      let start = (step - startOf(number)) * size;
      for (; start < microBatches.length && step < endStep; start += size) {
        const end = Math.min(start + size, microBatches.length);
        yield {
          step: step++,
          epoch: number,
          microBatches: microBatches.slice(start, end),
          epochsDone: number + end / microBatches.length,
          endsEpoch: end === microBatches.length,
        };
      }
    }
  }

  const stepsIn = (number: number) => (number < epochs ? Math.min(totalSteps, startOf(number)) : totalSteps);
  return { totalSteps, epochs, epoch, epochOf, stepsIn, steps };
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
