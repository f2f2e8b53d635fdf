import { isMeta } from '../device/addon.js';
import { type NativeTensor, release } from '../device/native_tensor.js';
import { fill } from '../ops/elementwise.js';
import { gatherRows, scatterAddRows } from '../ops/embedding.js';
import { linear } from '../ops/linear.js';
import { linearCrossEntropy, linearCrossEntropyWithGradient } from '../ops/linear_cross_entropy.js';
import { sum } from '../ops/reduce.js';
import { rmsnormBackward } from '../ops/rmsnorm.js';
import { type BlockSaved, blockBackward, blockForward, forgetInner, openNorm, type Stream } from './block.js';
import { type DeviceBatch, disposeBatch, type MicroBatch, toDevice } from './device_batch.js';
import type { Gradients, Parameters } from './parameters.js';
import { RopeTables } from './rope_tables.js';

/** What forward keeps for backward: everything, the input of each block (gradient checkpointing), or nothing. */
type Keep = 'all' | 'inputs' | 'nothing';

/**
 * A LLaMA language model (arXiv 2302.13971) in Hugging Face's form: embedding → blocks → norm → head. Forward and
 * backward are explicit: backward walks the blocks in reverse, frees what it has used and adds into the flat
 * gradient. The head looks only at positions that carry a label.
 */
export class LlamaForCausalLM {
  readonly ropeTables: RopeTables;

  constructor(readonly parameters: Parameters) {
    this.ropeTables = new RopeTables(parameters.config, parameters.device);
  }

  /**
   * Adds the gradient of Σ weight · loss(token) over the labelled tokens to `gradients`, and returns the unweighted
   * sum of the losses. A micro-batch without labels adds nothing.
   */
  forwardBackward(
    microBatch: MicroBatch,
    weight: number,
    gradients: Gradients,
    { gradientCheckpointing = false }: { gradientCheckpointing?: boolean } = {},
  ): number {
    const batch = this.toDevice(microBatch);
    if (batch.labels === 0) {
      disposeBatch(batch);
      return 0;
    }
    const { config, weights } = this.parameters;
    const { stream, saved } = this.blocksForward(batch, gradientCheckpointing ? 'inputs' : 'all');

    // Head: the final norm is row by row, so it too is needed at labelled positions only.
    const labelled = this.labelledRows(stream, batch, gradientCheckpointing);
    const { y: hidden, rstd, h: last } = openNorm(labelled, weights.norm, config.rmsNormEps);
    labelled.residual.dispose();
    const lossWeights = hidden.like([batch.labels], 'float32');
    fill(lossWeights, weight);
    const { loss, dh: dhidden } = linearCrossEntropyWithGradient(
      hidden,
      weights.head,
      batch.targets,
      lossWeights,
      gradients.weights.head,
    );
    const dlast = rmsnormBackward(dhidden, last, weights.norm, rstd, { dw: gradients.weights.norm });
    release(lossWeights, hidden, rstd, last, dhidden);
    let dh = dlast.like([batch.tokens, config.hiddenSize]);
    fill(dh, 0);
    scatterAddRows(dh, dlast, batch.labelRows);
    dlast.dispose();

    for (let i = saved.length - 1; i >= 0; i--)
      dh = blockBackward(dh, saved[i], weights.blocks[i], gradients.weights.blocks[i], batch, config);
    scatterAddRows(gradients.weights.embedding, dh, batch.ids);
    dh.dispose();

    const total = sum(loss);
    loss.dispose();
    disposeBatch(batch);
    return total;
  }

  /** The loss of each labelled token, in order, without gradients. */
  losses(microBatch: MicroBatch): Float32Array {
    const batch = this.toDevice(microBatch);
    const { config, weights } = this.parameters;
    const { stream } = this.blocksForward(batch, 'nothing');
    const labelled = this.labelledRows(stream, batch, true);
    const { y: hidden, rstd, h: last } = openNorm(labelled, weights.norm, config.rmsNormEps);
    const loss = linearCrossEntropy(hidden, weights.head, batch.targets);
    const values = isMeta(loss.device) ? new Float32Array(batch.labels) : loss.floats();
    release(labelled.residual, last, hidden, rstd, loss);
    disposeBatch(batch);
    return values;
  }

  /** The logits of every position, float32 [tokens, vocab] (to be disposed by the caller). */
  logits(microBatch: MicroBatch): NativeTensor {
    const batch = this.toDevice(microBatch);
    const { config, weights } = this.parameters;
    const { stream } = this.blocksForward(batch, 'nothing');
    const { y: hidden, rstd, h } = openNorm(stream, weights.norm, config.rmsNormEps);
    if (h !== stream.residual) stream.residual.dispose();
    const logits = linear(hidden, weights.head, hidden.like([batch.tokens, config.vocabSize], 'float32'));
    release(hidden, rstd, h);
    disposeBatch(batch);
    return logits;
  }

  dispose(): void {
    this.ropeTables.dispose();
    this.parameters.dispose();
  }

  private toDevice(microBatch: MicroBatch): DeviceBatch {
    return toDevice(microBatch, this.parameters.device, this.ropeTables);
  }

  private blocksForward(batch: DeviceBatch, keep: Keep): { stream: Stream; saved: BlockSaved[] } {
    const { config, weights } = this.parameters;
    let stream: Stream = { residual: gatherRows(weights.embedding, batch.ids) };
    const saved: BlockSaved[] = [];
    for (const block of weights.blocks) {
      const out = blockForward(stream, block, batch, config);
      if (keep === 'all') {
        saved.push(out.saved);
      } else {
        // The h₁ that came in has been added up into this block's h, except at the first block, where it is h.
        if (stream.residual !== out.saved.h) stream.residual.dispose();
        const kept = forgetInner(out.saved);
        if (keep === 'inputs') saved.push(kept);
        else kept.h.dispose();
      }
      stream = out.stream;
    }
    return { stream, saved };
  }

  /** The open stream at labelled positions; releases the whole one (its residual only if nobody saved it). */
  private labelledRows(stream: Stream, batch: DeviceBatch, releaseResidual: boolean): Stream {
    const residual = gatherRows(stream.residual, batch.labelRows);
    if (releaseResidual) stream.residual.dispose();
    const delta = gatherRows(stream.delta!, batch.labelRows);
    stream.delta!.dispose();
    return { residual, delta };
  }
}
