/**
 * The schedules of Hugging Face's `get_scheduler`, and DeepSpeed's WarmupLR (`warmup_lr`), which the paper's
 * DeepSpeed file puts in the place of the cosine it asks for.
 */
export const SCHEDULES = ['constant', 'constant_with_warmup', 'linear', 'cosine', 'warmup_lr'] as const;
export type ScheduleType = (typeof SCHEDULES)[number];

export interface Schedule {
  type: ScheduleType;
  learningRate: number;
  warmupSteps: number;
  totalSteps: number;
}

/** The learning rate of optimizer step `step`, counted from 0. With warm-up the first rate is 0. */
export function learningRateAt(
  { type, learningRate, warmupSteps, totalSteps }: Schedule,
  step: number,
): number {
  if (type === 'constant') return learningRate;
  if (type === 'warmup_lr') {
    // WarmupLR with its default logarithmic warm-up from 0.
    const warmup = Math.max(2, warmupSteps);
    return step >= warmup ? learningRate : learningRate * (Math.log(step + 1) / Math.log(warmup));
  }
  if (step < warmupSteps) return learningRate * (step / Math.max(1, warmupSteps));
  if (type === 'constant_with_warmup') return learningRate;
  const left = Math.max(1, totalSteps - warmupSteps);
  if (type === 'linear') return learningRate * Math.max(0, (totalSteps - step) / left);
  const progress = (step - warmupSteps) / left;
  return learningRate * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
}

/** `warmup_steps` when it is above 0, else ceil(ratio · total), as TrainingArguments does. */
export function warmupStepsOf(totalSteps: number, warmupRatio: number, warmupSteps: number): number {
  return warmupSteps > 0 ? warmupSteps : Math.ceil(totalSteps * warmupRatio);
}
