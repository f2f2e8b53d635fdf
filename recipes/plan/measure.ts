import { writeFileSync } from 'node:fs';
import { makeMicroBatch } from '../../data/index.js';
import { addon } from '../../engine/device/addon.js';
import { residentMemory } from '../../engine/machine/memory.js';
import type { RunPlan } from '../../engine/plan/plan.js';
import { allocate } from '../allocate.js';
import { setInitialWeights } from '../initial_weights.js';
import type { PreparedRun } from '../prepare.js';

/** What a run was seen to take. Bytes and seconds. */
export interface Measurement {
  /** The arena's high-water mark. */
  arena: number;
  /** Resident memory of the process before the model is loaded, and at its fullest from then on. */
  residentBefore: number;
  residentPeak: number;
  /** Micro-batches of the run's first steps that were timed. */
  microBatches: number;
  tokensPerSecond: number;
  /** Clipping and AdamW. */
  updateSeconds: number;
  /** The run at this speed; evaluations and checkpoints come on top. */
  estimatedSeconds: number;
}

/** Enough for a steady figure, little enough to wait for. */
const TIMED_SECONDS = 10;

/**
 * Loads the model and trains it: first on the run's largest micro-batches, which set the marks, then on its first
 * ones, which are timed. Nothing is written.
 */
export async function trialRun(
  prepared: PreparedRun,
  plan: RunPlan,
  tokensOfRun: number,
): Promise<Measurement> {
  const { config, device, dataset, evalDataset, schedule, gradientCheckpointing } = prepared;
  const { maxGradNorm } = prepared.training;
  addon.resetStats(device);
  const residentBefore = startPeak();

  const { model, gradients, optimizer, dispose } = allocate(prepared);
  const { parameters } = model;
  const train = (examples: ArrayLike<number>) => {
    const batch = makeMicroBatch(dataset, examples);
    const weight = batch.labelTokens > 0 ? 1 / batch.labelTokens : 0;
    model.forwardBackward(batch, weight, gradients, { gradientCheckpointing }).dispose();
    return batch.ids.length;
  };
  let updates = 0;
  const update = () => {
    optimizer.step(++updates, config.learning_rate, gradients, { maxGradNorm });
    gradients.zero();
  };

  try {
    await setInitialWeights(prepared, parameters);
    train(plan.largest.examples);
    if (plan.largestEvaluation) model.losses(makeMicroBatch(evalDataset!, plan.largestEvaluation.examples));
    update();

    let microBatches = 0;
    let tokens = 0;
    const seconds = stopwatch();
    for (const examples of firstMicroBatches(prepared)) {
      tokens += train(examples);
      microBatches++;
      if (seconds() > TIMED_SECONDS) break;
    }
    const tokensPerSecond = tokens / seconds();
    const updating = stopwatch();
    update();
    const updateSeconds = updating();

    return {
      arena: addon.stats(device).arenaHighWater,
      residentBefore,
      residentPeak: residentMemory('VmHWM'),
      microBatches,
      tokensPerSecond,
      updateSeconds,
      estimatedSeconds: tokensOfRun / tokensPerSecond + schedule.totalSteps * updateSeconds,
    };
  } finally {
    dispose();
    addon.resetStats(device);
  }
}

function* firstMicroBatches({ schedule }: PreparedRun): Generator<Int32Array> {
  for (const { microBatches } of schedule.steps()) yield* microBatches;
}

function stopwatch(): () => number {
  const start = performance.now();
  return () => (performance.now() - start) / 1000;
}

/** Starts a new high-water mark of resident memory, and returns the bytes it starts from. */
function startPeak(): number {
  try {
    // 5 sets VmHWM to VmRSS (Linux, Documentation/filesystems/proc.rst).
    writeFileSync('/proc/self/clear_refs', '5');
  } catch {
    // Some sandboxes do not have it: an earlier mark that stays can only make the measurement too large.
  }
  return residentMemory('VmRSS');
}
