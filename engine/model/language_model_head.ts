import type { NativeTensor } from '../device/native_tensor.js';
import { linear } from '../ops/linear.js';
import { linearCrossEntropy, linearCrossEntropyWithGradient } from '../ops/linear_cross_entropy.js';
import type { GradientOf } from './linear_layer.js';
import type { Weight } from './parameters.js';

/** Hidden states → the loss of each row's target. The weight [V, C] is the embedding itself in a tied model. */
export class LanguageModelHead {
  constructor(readonly weight: Weight) {}

  /** Float32 logits [rows, V] of hidden [rows, C]. */
  logits(hidden: NativeTensor): NativeTensor {
    const [rows] = hidden.shape;
    return linear(hidden, this.weight.value, hidden.like([rows, this.weight.value.shape[0]], 'float32'));
  }

  /** The loss of each row, float32 [rows], for hidden [rows, C] and targets int32 [rows]. */
  losses(hidden: NativeTensor, targets: NativeTensor): NativeTensor {
    return linearCrossEntropy(hidden, this.weight.value, targets);
  }

  /**
   * The losses, and the gradient of Σ weights[row]·loss[row]: that of hidden is returned, that of the weight added to
   * `gradients`.
   */
  lossesAndGradient(
    hidden: NativeTensor,
    targets: NativeTensor,
    weights: NativeTensor,
    gradients: GradientOf,
  ): { loss: NativeTensor; dhidden: NativeTensor } {
    const { loss, dh } = linearCrossEntropyWithGradient(
      hidden,
      this.weight.value,
      targets,
      weights,
      gradients.of(this.weight),
    );
    return { loss, dhidden: dh };
  }
}
