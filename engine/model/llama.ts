import type { MicroBatch } from '../../batch.js';
import { isMeta } from '../device/addon.js';
import { NativeTensor, release, releaseOnThrow } from '../device/native_tensor.js';
import { Repeat } from '../device/repeat.js';
import { fill } from '../ops/elementwise.js';
import { type DeviceBatch, disposeBatch, tensorsOf, toDevice } from './device_batch.js';
import { LanguageModelHead } from './language_model_head.js';
import type { Gradients, Parameters } from './parameters.js';
import { RopeTables } from './rope_tables.js';
import { HEAD } from './specs.js';
import { Trunk } from './trunk.js';

/** A LLaMA language model in Hugging Face's form. The head looks only at positions that carry a label. */
export class LlamaForCausalLM {
  readonly trunk: Trunk;
  readonly head: LanguageModelHead;
  readonly ropeTables: RopeTables;
  readonly repeat = new Repeat();

  constructor(readonly parameters: Parameters) {
    this.trunk = new Trunk(parameters);
    this.head = new LanguageModelHead(
      parameters.config.tieWordEmbeddings ? this.trunk.embedding : parameters.weight(HEAD),
      parameters.config.vocabSize,
    );
    this.ropeTables = new RopeTables(parameters.config, parameters.device);
  }

  /**
   * Adds the gradient of Σ weight · loss(token) over the labelled tokens to `gradients`, and returns the loss of each,
   * float32 [labels], to be disposed by the caller. A micro-batch without labels adds nothing.
   */
  forwardBackward(
    microBatch: MicroBatch,
    weight: number,
    gradients: Gradients,
    { gradientCheckpointing = false }: { gradientCheckpointing?: boolean } = {},
  ): NativeTensor {
    return releaseOnThrow(() => {
      const batch = this.toDevice(microBatch);
      if (batch.labels === 0) {
        disposeBatch(batch);
        return NativeTensor.inArena(this.parameters.device, 'float32', [0]);
      }
      const keep = gradientCheckpointing ? 'inputs' : 'all';
      const [loss, weights] = [0, 1].map(() =>
        NativeTensor.inArena(this.parameters.device, 'float32', [batch.labels]),
      );
      fill(weights, weight);
      const pass = () => {
        const { hidden, saved } = this.trunk.forward(batch, keep, batch.labelRows);
        const dhidden = this.head.lossesAndGradient(hidden, batch.targets, weights, gradients, loss);
        hidden.dispose();
        this.trunk.backward(dhidden, saved, batch, gradients);
      };
      const { next } = gradients;
      if (next === 'both') pass();
      else {
        const tensors = [...tensorsOf(batch), weights, loss, gradients.all];
        if (!this.repeat.do(`train ${keep} ${next}`, tensors, pass)) gradients.written();
      }
      weights.dispose();
      disposeBatch(batch);
      return loss;
    });
  }

  /** The loss of each labelled token, in order, without gradients. */
  losses(microBatch: MicroBatch): Float32Array {
    return releaseOnThrow(() => {
      const batch = this.toDevice(microBatch);
      const hidden = this.trunk.hiddenStates(batch, batch.labelRows);
      const loss = this.head.losses(hidden, batch.targets);
      const values = isMeta(loss.device) ? new Float32Array(batch.labels) : loss.floats();
      release(hidden, loss);
      disposeBatch(batch);
      return values;
    });
  }

  /** The logits of every position, float32 [tokens, vocab] (to be disposed by the caller). */
  logits(microBatch: MicroBatch): NativeTensor {
    return releaseOnThrow(() => {
      const batch = this.toDevice(microBatch);
      const hidden = this.trunk.hiddenStates(batch);
      const logits = this.head.emptyLogits(batch.tokens);
      this.head.logits(hidden, logits);
      hidden.dispose();
      disposeBatch(batch);
      return logits;
    });
  }

  dispose(): void {
    this.ropeTables.dispose();
    this.parameters.dispose();
  }

  private toDevice(microBatch: MicroBatch): DeviceBatch {
    return toDevice(microBatch, this.parameters, this.ropeTables);
  }
}
