import { availableMemory, type Memory } from '../../engine/backend/memory.js';
import { llamaLayout } from '../../engine/model/layout.js';
import { type BatchSize, batchSize } from '../../engine/plan/batch_size.js';
import { planRun, type RunPlan } from '../../engine/plan/plan.js';
import { evaluationExamples, type PreparedRun } from '../prepare.js';
import { gib } from '../words.js';

/** What a prepared run takes of memory and arithmetic; exact for the number of threads that is set. */
export function planPrepared(prepared: PreparedRun): RunPlan {
  const { dataset, evalDataset, schedule } = prepared;
  const training = Array.from(schedule.steps(), ({ microBatches }) =>
    microBatches.map((examples) => batchSize(examples, dataset)),
  ).flat();
  const evaluation = Array.from(evaluationExamples(prepared), (examples) =>
    batchSize(examples, evalDataset!),
  );
  return plan(prepared, training, evaluation);
}

/**
 * A line for a run that takes more than the memory left: not a refusal, for there may be swap. It looks at the
 * first epoch's micro-batch with the most tokens only, which takes no time and is off by some percent.
 */
export function memoryWarning(prepared: PreparedRun, memory: Memory = availableMemory()): string | undefined {
  const { schedule, dataset } = prepared;
  const sizes = schedule.epoch(0).microBatches.map((examples) => batchSize(examples, dataset));
  const largest = sizes.reduce((most, size) => (size.tokens > most.tokens ? size : most));
  const { total } = plan(prepared, [largest], []).memory;
  return total > memory.available ? tooLarge(total, memory) : undefined;
}

/** What to say of a run that takes `bytes` where that is more than there is. */
export function tooLarge(bytes: number, memory: Memory): string {
  return (
    `warning: this run takes ${gib(bytes)} of memory, and ${gib(memory.available)} of ${gib(memory.total)} are ` +
    'available: it will swap or be killed. gradient_checkpointing: true, or a smaller ' +
    'per_device_train_batch_size with more gradient_accumulation_steps, take less; `tstrain plan` tells how much'
  );
}

/** Bytes on the disk. */
export interface DiskUse {
  /** Weights and two moments. */
  checkpoint: number;
  finalModel: number;
  /** At its most: with all checkpoints that stay, and one more while it is written. */
  most: number;
}

/**
 * What a run writes into output_dir; of one that is resumed after `firstStep`, what comes on top of the checkpoints and
 * the model that are there.
 */
export function diskUse(
  { model, config, training, schedule }: Pick<PreparedRun, 'model' | 'config' | 'training' | 'schedule'>,
  { firstStep, checkpoints, holdsModel } = { firstStep: 0, checkpoints: 0, holdsModel: false },
): DiskUse {
  const weights = 4 * llamaLayout(model).parameters;
  const left = schedule.totalSteps - firstStep;
  const saves = {
    no: () => 0,
    epoch: () => Math.min(schedule.epochs, left),
    steps: (every: number) => Math.floor(schedule.totalSteps / every) - Math.floor(firstStep / every),
  };
  const planned =
    typeof training.saveEvery === 'number' ? saves.steps(training.saveEvery) : saves[training.saveEvery]();
  // Ctrl-C writes one too. One more than stay is there while it is written.
  const most = Math.min(checkpoints + planned + 1, (config.save_total_limit ?? Number.POSITIVE_INFINITY) + 1);
  return {
    checkpoint: 3 * weights,
    finalModel: weights,
    most: 3 * weights * Math.max(0, most - checkpoints) + (holdsModel ? 0 : weights),
  };
}

function plan(
  { model, precision, training: { gradientCheckpointing } }: PreparedRun,
  training: readonly BatchSize[],
  evaluation: readonly BatchSize[],
): RunPlan {
  return planRun({ model, precision, gradientCheckpointing, training, evaluation });
}
