import type { TrainingBatch } from '../../batch.js';
import type { NativeTensor } from '../device/native_tensor.js';
import type { LlamaForCausalLM } from '../model/llama.js';
import type { Gradients } from '../model/parameters.js';
import { sumInto } from '../ops/reduce.js';

/**
 * What a run minimises: the mean over its terms of a loss. The loop hands it micro-batches and knows nothing else of
 * what is learned. Nothing here waits for the device: what a pass finds out is left there.
 */
export interface Objective<Batch extends TrainingBatch = TrainingBatch> {
  /** Kept in checkpoints: a run goes on with the objective that it began with. */
  readonly name: string;
  /** What it measures of each term besides the loss, by the names that metrics.jsonl has. */
  readonly measures: readonly string[];
  /** The terms of a micro-batch: labelled tokens, pairs of texts. */
  terms(batch: Batch): number;
  /**
   * Adds the gradient of weight · Σ loss to `gradients`, and writes Σ loss and Σ of each measure to `sums`, float64
   * [1 + measures].
   */
  forwardBackward(batch: Batch, weight: number, gradients: Gradients, sums: NativeTensor): void;
  /** Without gradients: the loss of each term, and each measure of it, [terms] each. */
  evaluate(batch: Batch): ArrayLike<number>[];
}

/** The cross entropy of each labelled token. */
export function nextToken(
  model: LlamaForCausalLM,
  { gradientCheckpointing }: { gradientCheckpointing: boolean },
): Objective {
  return {
    name: 'next_token',
    measures: [],
    terms: (batch) => batch.labelTokens,
    forwardBackward(batch, weight, gradients, sums) {
      const losses = model.forwardBackward(batch, weight, gradients, { gradientCheckpointing });
      sumInto(sums, losses);
      losses.dispose();
    },
    evaluate: (batch) => [model.losses(batch)],
  };
}
