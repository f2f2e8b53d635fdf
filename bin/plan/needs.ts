import { measureRun } from '../../data/index.js';
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
 * micro-batch with the most tokens only, which takes no time and is off by some percent at most.
 */
export function memoryWarning(prepared: PreparedRun, memory: Memory = availableMemory()): string | undefined {
  const { largest } = measureRun(prepared.schedule, prepared.dataset);
  const { total } = plan(prepared, [batchSize(largest, prepared.dataset)], []).memory;
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

/** What the `steps` steps still to do write into output_dir. */
export function diskUse(
  { model, config, training, schedule }: Pick<PreparedRun, 'model' | 'config' | 'training' | 'schedule'>,
  steps: number,
): DiskUse {
  const weights = 4 * llamaLayout(model).parameters;
  let checkpoints = 0;
  if (training.saveEvery !== 'no') {
    const saves = training.saveEvery === 'epoch' ? schedule.epochs : Math.floor(steps / training.saveEvery);
    checkpoints = Math.min(saves, (config.save_total_limit ?? saves) + 1);
  }
  return { checkpoint: 3 * weights, finalModel: weights, most: weights * (1 + 3 * checkpoints) };
}

function plan(
  { model, precision, training: { gradientCheckpointing } }: PreparedRun,
  training: readonly BatchSize[],
  evaluation: readonly BatchSize[],
): RunPlan {
  return planRun({ model, precision, gradientCheckpointing, training, evaluation });
}
