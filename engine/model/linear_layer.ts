import type { NativeTensor } from '../device/native_tensor.js';
import { linear, linearBackwardInput, linearBackwardWeight } from '../ops/linear.js';
import type { Gradients, Weight } from './parameters.js';

/** Where backward finds what the gradient of a weight is added to, if it is wanted at all. */
export type GradientOf = Pick<Gradients, 'of'>;

/** y = x·Wᵀ: a weight [out, in], and whether its gradient is wanted. */
export class LinearLayer {
  constructor(readonly weight: Weight) {}

  /** y [rows, out] of x [rows, in], in x's type; `into` receives it instead of a new arena tensor. */
  forward(x: NativeTensor, into?: NativeTensor): NativeTensor {
    return linear(x, this.weight.value, into);
  }

  /** dx [rows, in] of dy [rows, out]. */
  backwardInput(dy: NativeTensor): NativeTensor {
    return linearBackwardInput(dy, this.weight.value);
  }

  /** Adds the gradients of what is trained here, for the x that went in. */
  backwardWeight(dy: NativeTensor, x: NativeTensor, gradients: GradientOf): void {
    const dw = gradients.of(this.weight);
    if (dw) linearBackwardWeight(dw, dy, x);
  }
}
