import { appendFileSync, closeSync, statSync, truncateSync } from 'node:fs';
import { fileError } from '../../errors.js';
import { exists, openRegular, readFully, sizeOf } from '../../files.js';
import { sync } from '../checkpoint/synced_file.js';

/** A training line of metrics.jsonl; numbers are not rounded. */
export interface TrainLine {
  /** Optimizer steps done. */
  step: number;
  /** Epochs done, as a fraction. */
  epoch: number;
  /** Mean of the steps since the last line. */
  loss: number;
  /** Global 2-norm of the last step's gradient, before clipping. */
  grad_norm: number;
  /** Of the last step. */
  learning_rate: number;
  /** Tokens and labelled tokens trained on since the last line. */
  tokens: number;
  label_tokens: number;
  /** Of the steps alone, without evaluation and checkpoints. */
  tokens_per_second: number;
  step_time_ms: number;
  /** What the objective measures, by name: means of the steps since the last line. */
  [measure: string]: number;
}

/**
 * Means over eval_data_path: of the loss of each labelled token, and of what the objective measures. (Hugging Face's
 * eval_loss is the mean over examples of their micro-batch's mean.)
 */
export interface EvalMeans {
  eval_loss: number;
  [measure: `eval_${string}`]: number;
}

/** An evaluation line of metrics.jsonl. */
export interface EvalLine extends EvalMeans {
  step: number;
  epoch: number;
}

/** Sums over the steps since the last training line. A checkpoint keeps them: a resumed run's next line is whole. */
export interface LineSums {
  steps: number;
  /** Σ of the steps' losses. */
  loss: number;
  tokens: number;
  label_tokens: number;
  milliseconds: number;
  /** Σ of the steps' means of each measure of the objective. */
  measures: Record<string, number>;
}

const MEND = 'checkpoints saved earlier are whole: mend that, then --resume';

/**
 * Appends one line.
 * @throws UserError when the disk does not take it whole; what it took of it is cut off again
 */
export function appendMetrics(file: string, line: TrainLine | EvalLine): void {
  let before: number | undefined;
  try {
    before = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
    appendFileSync(file, `${JSON.stringify(line)}\n`);
  } catch (error) {
    try {
      if (before !== undefined) truncateSync(file, before);
    } catch {
      // Then dropMetricsAfter() does it when the run is resumed.
    }
    throw fileError(error, file, MEND);
  }
}

/**
 * Puts the lines on the disk: those up to a checkpoint are part of what it stands for.
 * @throws UserError when the disk does not take them
 */
export async function syncMetrics(file: string): Promise<void> {
  if (!exists(file)) return;
  try {
    await sync(file);
  } catch (error) {
    throw fileError(error, file, MEND);
  }
}

/** Longer than any line of ours. */
const TAIL = 2 ** 16;

/** Cuts off the lines of steps after `step`, and a last line that a kill cut short: a resumed run writes them anew. */
export async function dropMetricsAfter(file: string, step: number): Promise<void> {
  if (!exists(file)) return;
  const fd = openRegular(file);
  let kept = 0;
  try {
    for (let end = sizeOf(fd, file); end > 0 && kept === 0; ) {
      const start = Math.max(0, end - TAIL);
      const bytes = Buffer.alloc(end - start);
      readFully(fd, file, bytes, start);
      const within = endOfKept(bytes, step);
      if (within > 0) kept = start + within;
      // A line that only ends in this piece is looked at whole in the next one.
      const firstEnd = bytes.indexOf('\n') + 1;
      end = start + (start === 0 || firstEnd === bytes.length ? 0 : firstEnd);
    }
  } finally {
    closeSync(fd);
  }
  try {
    truncateSync(file, kept);
    await sync(file);
  } catch (error) {
    throw fileError(error, file, MEND);
  }
}

/** Where the last whole line of steps up to `step` ends; 0 when there is none. */
function endOfKept(bytes: Buffer, step: number): number {
  for (let end = bytes.lastIndexOf('\n'); end >= 0; ) {
    const before = end === 0 ? -1 : bytes.lastIndexOf('\n', end - 1);
    if (isUpTo(bytes.toString('utf8', before + 1, end), step)) return end + 1;
    end = before;
  }
  return 0;
}

function isUpTo(line: string, step: number): boolean {
  try {
    return (JSON.parse(line) as { step: number }).step <= step;
  } catch {
    return false;
  }
}
