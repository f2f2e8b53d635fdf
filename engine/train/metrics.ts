import {
  appendFileSync,
  existsSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { fileError } from '../../errors.js';

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

/** Means over eval_data_path: of the loss of each labelled token, and of what the objective measures. */
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

/**
 * Appends one line.
 * @throws UserError when the disk does not take it whole; what it took of it is cut off again
 */
export function appendMetrics(file: string, line: TrainLine | EvalLine): void {
  const before = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
  try {
    appendFileSync(file, `${JSON.stringify(line)}\n`);
  } catch (error) {
    try {
      truncateSync(file, before);
    } catch {
      // Then dropMetricsAfter() does it when the run is resumed.
    }
    throw fileError(error, file, 'checkpoints saved earlier are whole: mend that, then --resume');
  }
}

/** Drops the lines of steps after `step`, and a last line that a kill cut short: a resumed run writes them anew. */
export function dropMetricsAfter(file: string, step: number): void {
  if (!existsSync(file)) return;
  const kept = readFileSync(file, 'utf8')
    .split('\n')
    .filter((text) => {
      try {
        return (JSON.parse(text) as { step: number }).step <= step;
      } catch {
        return false;
      }
    });
  const aside = `${file}.tmp`;
  writeFileSync(aside, kept.map((text) => `${text}\n`).join(''));
  renameSync(aside, file);
}
