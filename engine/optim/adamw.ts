import { addon } from '../device/addon.js';
import type { NativeTensor } from '../device/native_tensor.js';
import { type Gradients, type Parameters, zeros } from '../model/parameters.js';

export interface AdamWOptions {
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Decoupled, on everything but norms. */
  weightDecay: number;
}

/**
 * AdamW (arXiv 1711.05101) over flat buffers: one pass over weights, gradients and moments, which also applies the
 * clipping factor and writes the bfloat16 copy of the weights.
 */
export class AdamW {
  /** First and second moments, flat float32, laid out as the weights. */
  readonly m: NativeTensor;
  readonly v: NativeTensor;

  constructor(
    private readonly parameters: Parameters,
    readonly options: AdamWOptions,
  ) {
    const { device, layout } = parameters;
    this.m = zeros(device, layout.trainableSize);
    this.v = zeros(device, layout.trainableSize);
  }

  /** Update number `step`, counted from 1, with gradients multiplied by `gradScale`. */
  step(step: number, learningRate: number, gradients: Gradients, gradScale = 1): void {
    const { beta1, beta2, epsilon, weightDecay } = this.options;
    const { layout, precision, master, flat } = this.parameters;
    for (const { offset, size, decayed } of layout.ranges) {
      const range = (t: NativeTensor) => t.view([size], offset);
      const [p, m, v, g] = [master, this.m, this.v, gradients.flat].map(range);
      const p16 = precision === 'bf16' ? range(flat) : undefined;
      addon.ops.adamw({
        p,
        m,
        v,
        p16,
        g,
        n: size,
        step,
        lr: learningRate,
        beta1,
        beta2,
        eps: epsilon,
        weight_decay: decayed ? weightDecay : 0,
        grad_scale: gradScale,
      });
      for (const t of [p, m, v, g, p16]) t?.dispose();
    }
  }

  dispose(): void {
    this.m.dispose();
    this.v.dispose();
  }
}
