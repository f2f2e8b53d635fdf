import { writeFileSync } from 'node:fs';
import { makeMicroBatch } from '../../data/index.js';
import { addon, defaultDevice } from '../../engine/device/addon.js';
import { residentMemory } from '../../engine/machine/memory.js';
import { LlamaForCausalLM } from '../../engine/model/llama.js';
import { Gradients, Parameters } from '../../engine/model/parameters.js';
import { AdamW } from '../../engine/optim/adamw.js';
import { clipFactor, globalNorm } from '../../engine/optim/clip.js';
import type { RunPlan } from '../../engine/plan/plan.js';
import type { PreparedRun } from '../prepare.js';
import { setInitialWeights } from '../train/initial_weights.js';

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
  const { config, dataset, evalDataset, schedule } = prepared;
  const { gradientCheckpointing, maxGradNorm } = prepared.training;
  addon.resetStats(defaultDevice());
  const residentBefore = startPeak();

  const parameters = new Parameters(prepared.model, defaultDevice(), prepared.precision);
  const model = new LlamaForCausalLM(parameters);
  const optimizer = new AdamW(parameters.layout, defaultDevice(), prepared.optimizer);
  const gradients = new Gradients(parameters.layout, prepared.model, defaultDevice());
  await setInitialWeights(prepared, parameters);

  const train = (examples: ArrayLike<number>) => {
    const batch = makeMicroBatch(dataset, examples);
    const weight = batch.labelTokens > 0 ? 1 / batch.labelTokens : 0;
    model.forwardBackward(batch, weight, gradients, { gradientCheckpointing });
    return batch.ids.length;
  };
  let updates = 0;
  const update = () => {
    const scale = clipFactor(globalNorm(gradients.flat), maxGradNorm);
    optimizer.step(++updates, config.learning_rate, parameters, gradients, scale);
    gradients.zero();
  };

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

  const measurement = {
    arena: addon.stats(defaultDevice()).arenaHighWater,
    residentBefore,
    residentPeak: residentMemory('VmHWM'),
    microBatches,
    tokensPerSecond,
    updateSeconds,
    estimatedSeconds: tokensOfRun / tokensPerSecond + schedule.totalSteps * updateSeconds,
  };
  gradients.dispose();
  optimizer.dispose();
  model.dispose();
  addon.resetStats(defaultDevice());
  return measurement;
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
