import { addon, type DeviceName } from '../device/addon.js';
import type { NativeTensor } from '../device/native_tensor.js';
import type { Layout } from '../model/layout.js';
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
    readonly layout: Layout,
    device: DeviceName,
    readonly options: AdamWOptions,
  ) {
    this.m = zeros(device, layout.size);
    this.v = zeros(device, layout.size);
  }

  /** Update number `step`, counted from 1, with gradients multiplied by `gradScale`. */
  step(
    step: number,
    learningRate: number,
    parameters: Parameters,
    gradients: Gradients,
    gradScale = 1,
  ): void {
    const { beta1, beta2, epsilon, weightDecay } = this.options;
    for (const { offset, size, decayed } of this.layout.ranges) {
      const range = (t: NativeTensor) => t.view([size], offset);
      const [p, m, v, g] = [parameters.master, this.m, this.v, gradients.flat].map(range);
      const p16 = parameters.half && range(parameters.half);
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
