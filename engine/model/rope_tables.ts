import type { DeviceName } from '../device/addon.js';
import { keepOnThrow, NativeTensor } from '../device/native_tensor.js';
import type { RopeAngles } from '../ops/rope.js';
import type { LlamaConfig, RopeConfig } from './config.js';

/**
 * Inverse frequencies θ_i, i = 0 … D/2 − 1, in float64, and the factor on cos and sin (YaRN's), by
 * `rope_type`: default (arXiv 2104.09864), linear (2306.15595), dynamic NTK, llama3, yarn (2309.00071).
 * `length` is the document's own length; only `dynamic` looks at it.
 */
export function inverseFrequencies(
  rope: RopeConfig,
  headDim: number,
  maxPositionEmbeddings: number,
  length = 0,
): { frequencies: Float64Array; factor: number } {
  const half = headDim / 2;
  const powers = (base: number) =>
    Float64Array.from({ length: half }, (_, i) => base ** ((-2 * i) / headDim));
  switch (rope.type) {
    case 'default':
      return { frequencies: powers(rope.theta), factor: 1 };
    case 'linear':
      return { frequencies: powers(rope.theta).map((f) => f / rope.factor), factor: 1 };
    case 'dynamic': {
      const seen = Math.max(length, maxPositionEmbeddings);
      const stretch = (rope.factor * seen) / maxPositionEmbeddings - (rope.factor - 1);
      return { frequencies: powers(rope.theta * stretch ** (headDim / (headDim - 2))), factor: 1 };
    }
    case 'llama3': {
      const original = rope.originalMaxPositionEmbeddings;
      const longest = original / rope.lowFreqFactor;
      const shortest = original / rope.highFreqFactor;
      const frequencies = powers(rope.theta).map((f) => {
        const wavelength = (2 * Math.PI) / f;
        if (wavelength > longest) return f / rope.factor;
        if (wavelength < shortest) return f;
        const smooth =
          (original / wavelength - rope.lowFreqFactor) / (rope.highFreqFactor - rope.lowFreqFactor);
        return ((1 - smooth) * f) / rope.factor + smooth * f;
      });
      return { frequencies, factor: 1 };
    }
    case 'yarn': {
      const original = rope.originalMaxPositionEmbeddings;
      // The dimension that makes `rotations` turns over the original length.
      const dimension = (rotations: number) =>
        (headDim * Math.log(original / (rotations * 2 * Math.PI))) / (2 * Math.log(rope.theta));
      let low = dimension(rope.betaFast);
      let high = dimension(rope.betaSlow);
      if (rope.truncate ?? true) {
        low = Math.floor(low);
        high = Math.ceil(high);
      }
      low = Math.max(low, 0);
      high = Math.min(high, headDim - 1);
      const width = high === low ? 0.001 : high - low;
      const frequencies = powers(rope.theta).map((f, i) => {
        const interpolated = Math.min(1, Math.max(0, (i - low) / width));
        return (f / rope.factor) * interpolated + f * (1 - interpolated);
      });
      const scale = (m: number) => (rope.factor <= 1 ? 1 : 0.1 * m * Math.log(rope.factor) + 1);
      const factor =
        rope.attentionFactor ??
        (rope.mscale && rope.mscaleAllDim ? scale(rope.mscale) / scale(rope.mscaleAllDim) : scale(1));
      return { frequencies, factor };
    }
  }
}

/**
 * The cos and sin tables of a model on a device. Rows are positions; documents that `dynamic` scaling treats
 * differently get rows of their own for the time of a batch.
 */
export class RopeTables {
  private cos: NativeTensor | undefined;
  private sin: NativeTensor | undefined;
  private rows = 0;

  constructor(
    private readonly config: LlamaConfig,
    private readonly device: DeviceName,
  ) {}

  /**
   * The angles of documents of these lengths lying end to end; document j starts at position from[j] (tokens decoded
   * earlier), by default at 0. Dispose the result with {@link disposeAngles}.
   */
  angles(lengths: ArrayLike<number>, from?: ArrayLike<number>): RopeAngles {
    const { index, ...tables } = this.rowsOf(lengths, from);
    return { ...tables, index: NativeTensor.from(this.device, index) };
  }

  /** The same with the index on the host, to go up with other arrays. */
  rowsOf(
    lengths: ArrayLike<number>,
    from: ArrayLike<number> = new Int32Array(lengths.length),
  ): Omit<RopeAngles, 'index'> & { index: Int32Array } {
    // Not Math.max(...): there may be more documents than a call has arguments.
    let longest = 0;
    for (let j = 0; j < lengths.length; j++) longest = Math.max(longest, from[j] + lengths[j]);
    const tokens = Array.from(lengths).reduce((a, b) => a + b, 0);
    const index = new Int32Array(tokens);
    let at = 0;
    if (longest > this.unscaledLength()) {
      // Each document by its own length: one table row a token.
      const parts = Array.from(lengths, (n, j) => this.compute(from[j], n, from[j] + n));
      for (; at < tokens; at++) index[at] = at;
      const rows = (key: 'cos' | 'sin') =>
        this.table(Float32Array.from(parts.flatMap((part) => Array.from(part[key]))));
      return { cos: rows('cos'), sin: rows('sin'), index };
    }
    this.grow(longest);
    for (let j = 0; j < lengths.length; j++) for (let p = 0; p < lengths[j]; p++) index[at++] = from[j] + p;
    return { cos: this.cos!.view(this.cos!.shape), sin: this.sin!.view(this.sin!.shape), index };
  }

  dispose(): void {
    this.cos?.dispose();
    this.sin?.dispose();
    this.cos = this.sin = undefined;
    this.rows = 0;
  }

  /** Up to this length every document has the same frequencies. */
  private unscaledLength(): number {
    return this.config.rope.type === 'dynamic' ? this.config.maxPositionEmbeddings : Number.POSITIVE_INFINITY;
  }

  /** The shared table, for positions 0 … at least `length` − 1; doubled when it must grow. */
  private grow(length: number): void {
    if (length <= this.rows && this.cos) return;
    const rows = Math.max(64, 2 ** Math.ceil(Math.log2(Math.max(1, length))));
    const { cos, sin } = this.compute(0, rows, 0);
    this.dispose();
    // They stay the model's when what needed them fails.
    this.cos = this.table(cos);
    keepOnThrow(this.cos);
    this.sin = this.table(sin);
    keepOnThrow(this.sin);
    this.rows = rows;
  }

  private table(values: Float32Array): NativeTensor {
    const half = this.config.headDim / 2;
    return NativeTensor.from(this.device, values, [values.length / half, half]);
  }

  private compute(from: number, count: number, length: number): { cos: Float32Array; sin: Float32Array } {
    const { rope, headDim, maxPositionEmbeddings } = this.config;
    const { frequencies, factor } = inverseFrequencies(rope, headDim, maxPositionEmbeddings, length);
    const half = headDim / 2;
    const cos = new Float32Array(count * half);
    const sin = new Float32Array(count * half);
    for (let p = 0; p < count; p++)
      for (let i = 0; i < half; i++) {
        const angle = (from + p) * frequencies[i];
        cos[p * half + i] = Math.cos(angle) * factor;
        sin[p * half + i] = Math.sin(angle) * factor;
      }
    return { cos, sin };
  }
}

export function disposeAngles(angles: RopeAngles): void {
  angles.cos.dispose();
  angles.sin.dispose();
  angles.index.dispose();
}
