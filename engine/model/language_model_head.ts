import { NativeTensor } from '../device/native_tensor.js';
import { takeColumns } from '../ops/columns.js';
import { linear } from '../ops/linear.js';
import { linearCrossEntropy, linearCrossEntropyWithGradient } from '../ops/linear_cross_entropy.js';
import type { GradientOf } from './linear_layer.js';
import type { Weight } from './parameters.js';

/**
 * Hidden states → the loss of each row's target. The weight is the embedding itself in a tied model; it has a row for each
 * of `vocab` words, and zeros behind them where the device wants more.
 */
export class LanguageModelHead {
  constructor(
    readonly weight: Weight,
    readonly vocab: number,
  ) {}

  /** For {@link logits}: float32 [rows, V] in the arena. */
  emptyLogits(rows: number): NativeTensor {
    return NativeTensor.matrix(this.weight.value.device, 'float32', [rows, this.vocab]);
  }

  /** Float32 logits [rows, V] of hidden [rows, C], to `into`. */
  logits(hidden: NativeTensor, into: NativeTensor): void {
    const [rows] = hidden.shape;
    const [words] = this.weight.value.shape;
    if (words === this.vocab) {
      linear(hidden, this.weight.value, { into });
      return;
    }
    const all = linear(hidden, this.weight.value, { into: hidden.like([rows, words], 'float32') });
    takeColumns(all, 0, this.vocab, into);
    all.dispose();
  }

  /** The loss of each row, float32 [rows], for hidden [rows, C] and targets int32 [rows]. */
  losses(hidden: NativeTensor, targets: NativeTensor): NativeTensor {
    return linearCrossEntropy(hidden, this.weight.value, targets, this.vocab);
  }

  /**
   * The losses, to `loss`, and the gradient of Σ weights[row]·loss[row]: that of hidden is returned, that of the weight
   * added to `gradients`.
   */
  lossesAndGradient(
    hidden: NativeTensor,
    targets: NativeTensor,
    weights: NativeTensor,
    gradients: GradientOf,
    loss: NativeTensor,
  ): NativeTensor {
    const of = gradients.forProduct(this.weight);
    const { dh } = linearCrossEntropyWithGradient(hidden, this.weight.value, targets, weights, of?.dw, {
      vocab: this.vocab,
      accumulate: of?.accumulate,
      into: loss,
    });
    return dh;
  }
}
