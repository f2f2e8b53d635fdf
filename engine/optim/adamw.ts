import { addon } from '../device/addon.js';
import { type FloatType, NativeTensor, release } from '../device/native_tensor.js';
import { type Gradients, type Parameters, zeros } from '../model/parameters.js';
import { sumSquaresInto } from '../ops/reduce.js';
import { clip } from './clip.js';

export interface AdamWOptions {
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Decoupled, on everything but norms. */
  weightDecay: number;
  /** What the moments are kept in: float32 unless said otherwise. bfloat16 is rounded at random, by `seed`. */
  stateType?: FloatType;
  /** Whether they lie in the machine's memory, where a device has its own: an update then takes them over the bus. */
  onHost?: boolean;
  /** Of the random numbers, which depend on nothing else but the step and an element's place. Default 0. */
  seed?: number;
}

/** What decides about an update on the device, and what the host may read of it later. */
export interface UpdateOptions {
  /** Largest global 2-norm of the gradient; 0 (default): no clipping. */
  maxGradNorm?: number;
  /** Receives Σ g² before clipping, float64 [1]. */
  squares?: NativeTensor;
  /** The step's losses, float64: one that is not finite stops this update and all further ones. */
  losses?: NativeTensor;
}

/**
 * AdamW (arXiv 1711.05101) over flat buffers: one pass over weights, gradients and moments, which also applies the
 * clipping factor and rounds the weights of bf16 anew. Learning rate, step, norm and factor are read on the
 * device: the host waits for nothing. From the first gradient or loss on that is not finite, nothing changes any more.
 */
export class AdamW {
  /** First and second moments, flat, laid out as what is trained. */
  readonly m: NativeTensor;
  readonly v: NativeTensor;
  /** Float64 {step, learning rate, norm, clipping factor}. */
  private readonly update: NativeTensor;
  private readonly squares: NativeTensor;

  constructor(
    private readonly parameters: Parameters,
    readonly options: AdamWOptions,
  ) {
    const { device, layout } = parameters;
    const { stateType = 'float32', onHost = false } = options;
    this.m = zeros(device, stateType, layout.trainableSize, onHost);
    this.v = zeros(device, stateType, layout.trainableSize, onHost);
    this.update = NativeTensor.onHeap(device, 'float64', [4]);
    this.update.write(new Float64Array(4));
    this.squares = NativeTensor.onHeap(device, 'float64', [1]);
  }

  /** Update number `step`, counted from 1. */
  step(
    step: number,
    learningRate: number,
    gradients: Gradients,
    { maxGradNorm = 0, squares = this.squares, losses }: UpdateOptions = {},
  ): void {
    const { beta1, beta2, epsilon, weightDecay, seed = 0 } = this.options;
    const { layout, flat, remainder: remainders } = this.parameters;
    sumSquaresInto(squares, gradients.flat);
    this.update.write(Float64Array.of(step, learningRate));
    clip(this.update, squares, losses, maxGradNorm);
    for (const { offset, size, decayed } of layout.ranges) {
      const range = (t: NativeTensor) => t.view([size], offset);
      const [p, m, v, g] = [flat, this.m, this.v, gradients.flat].map(range);
      const remainder = remainders && range(remainders);
      addon.ops.adamw({
        p,
        remainder,
        m,
        v,
        g,
        update: this.update,
        n: size,
        beta1,
        beta2,
        eps: epsilon,
        weight_decay: decayed ? weightDecay : 0,
        seed,
        place: offset,
      });
      for (const t of [p, remainder, m, v, g]) t?.dispose();
    }
  }

  dispose(): void {
    release(this.m, this.v, this.update, this.squares);
  }
}
