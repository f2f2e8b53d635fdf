import { type NativeTensor, release } from '../device/native_tensor.js';
import { fill } from '../ops/elementwise.js';
import { gatherRows, scatterAddRows } from '../ops/embedding.js';
import { rmsnorm, rmsnormBackward } from '../ops/rmsnorm.js';
import {
  type Attend,
  type Block,
  type BlockSaved,
  blockBackward,
  blockForward,
  blockOf,
  forgetInner,
  headsOf,
  isTrained,
  withinDocuments,
} from './block.js';
import type { DeviceBatch } from './device_batch.js';
import type { GradientOf } from './linear_layer.js';
import type { Parameters, Weight } from './parameters.js';
import { EMBEDDING, FINAL_NORM } from './specs.js';

/** What forward keeps for backward: everything, the input of each block (gradient checkpointing), or nothing. */
export type Keep = 'all' | 'inputs' | 'nothing';

/** What the trunk's backward pass needs, its own until then. */
export interface TrunkSaved {
  /** Of each block that backward will reach. */
  blocks: (BlockSaved | undefined)[];
  rows: NativeTensor;
  /** Of the final norm, at those rows. */
  last: NativeTensor;
  rstd: NativeTensor;
}

/**
 * What all LLaMA models share (Hugging Face's LlamaModel, arXiv 2302.13971): embedding → blocks → norm. Forward gives
 * hidden states at the rows that a head looks at, for the norm is row by row; backward walks the blocks in reverse,
 * frees what it has used, and goes no deeper than the lowest parameter that is trained.
 */
export class Trunk {
  readonly embedding: Weight;
  readonly blocks: readonly Block[];
  readonly norm: Weight;
  /** The lowest block that backward must reach; as many as there are when it must reach none. */
  private readonly lowest: number;

  constructor(readonly parameters: Parameters) {
    const { numHiddenLayers } = parameters.config;
    this.embedding = parameters.weight(EMBEDDING);
    this.blocks = Array.from({ length: numHiddenLayers }, (_, i) => blockOf(parameters, i));
    this.norm = parameters.weight(FINAL_NORM);
    const trained = this.embedding.trainable ? 0 : this.blocks.findIndex(isTrained);
    this.lowest = trained < 0 ? numHiddenLayers : trained;
  }

  /**
   * Hidden states [rows, C] of a batch's tokens at `rows`, int32 [rows], to be disposed by the caller; and what
   * backward() takes over.
   */
  forward(batch: DeviceBatch, keep: Keep, rows: NativeTensor): { hidden: NativeTensor; saved: TrunkSaved } {
    return this.forwardAt(rows, batch.ids, this.within(batch), keep);
  }

  /** Hidden states at `rows`, or of all tokens, when no backward pass follows. */
  hiddenStates(batch: DeviceBatch, rows?: NativeTensor): NativeTensor {
    if (rows) return this.statesAt(rows, batch.ids, this.within(batch));
    const { h } = this.blocksForward(batch.ids, this.within(batch), 'nothing');
    const { y: hidden, rstd } = rmsnorm(h, this.norm.value, this.parameters.config.rmsNormEps);
    release(h, rstd);
    return hidden;
  }

  /** Hidden states at `rows` of tokens that look, in each block, at what `attend` says: earlier ones in a cache, say. */
  statesAt(rows: NativeTensor, ids: NativeTensor, attend: (block: number) => Attend): NativeTensor {
    const { hidden, saved } = this.forwardAt(rows, ids, attend, 'nothing');
    release(saved.last, saved.rstd);
    return hidden;
  }

  /** Adds the gradients of what is trained here. Releases `saved` and `dhidden` [rows, C], that of forward's result. */
  backward(
    dhidden: NativeTensor,
    { blocks, rows, last, rstd }: TrunkSaved,
    batch: DeviceBatch,
    gradients: GradientOf,
  ): void {
    const { config } = this.parameters;
    const dlast = rmsnormBackward(dhidden, last, this.norm.value, rstd, { dw: gradients.of(this.norm) });
    release(dhidden, last, rstd);
    if (this.lowest < this.blocks.length) {
      let dh = dlast.like([batch.tokens, config.hiddenSize]);
      fill(dh, 0);
      scatterAddRows(dh, dlast, rows);
      dlast.dispose();
      for (let i = this.blocks.length - 1; i >= this.lowest; i--)
        dh = blockBackward(dh, blocks[i]!, this.blocks[i], gradients, batch, config);
      const dembedding = gradients.of(this.embedding);
      if (dembedding) scatterAddRows(dembedding, dh, batch.ids);
      dh.dispose();
    } else {
      dlast.dispose();
    }
  }

  private within({ angles, documents }: DeviceBatch): () => Attend {
    const attend = withinDocuments(angles, documents, headsOf(this.parameters.config));
    return () => attend;
  }

  private forwardAt(rows: NativeTensor, ids: NativeTensor, attend: (block: number) => Attend, keep: Keep) {
    const { h, blocks } = this.blocksForward(ids, attend, keep);
    const last = gatherRows(h, rows);
    h.dispose();
    const { y: hidden, rstd } = rmsnorm(last, this.norm.value, this.parameters.config.rmsNormEps);
    return { hidden, saved: { blocks, rows, last, rstd } };
  }

  private blocksForward(ids: NativeTensor, attend: (block: number) => Attend, keep: Keep) {
    const { config } = this.parameters;
    let h = gatherRows(this.embedding.value, ids);
    const blocks = this.blocks.map((block, i): BlockSaved | undefined => {
      const { h2, saved } = blockForward(h, block, attend(i), config);
      h = h2;
      if (keep === 'all' && i >= this.lowest) return saved;
      const input = forgetInner(saved);
      if (keep === 'inputs' && i >= this.lowest) return input;
      input.h.dispose();
      return undefined;
    });
    return { h, blocks };
  }
}
