import { addon } from '../device/addon.js';
import type { NativeTensor } from '../device/native_tensor.js';

// Rotary position embedding (arXiv 2104.09864) in Hugging Face's half-split form: with a = x[i], b = x[i + D/2],
// (a, b) → (a·cos − b·sin, b·cos + a·sin). The tables come from model/rope_tables.ts.

export interface RopeAngles {
  /** float32 [rows, D/2]. */
  cos: NativeTensor;
  sin: NativeTensor;
  /** int32 [tokens]: the table row of each token. */
  index: NativeTensor;
}

/**
 * Turns the first `heads` heads of each row of x [tokens, ≥ heads·D] in place; `inverse` turns back, which is the
 * gradient.
 */
export function ropeInPlace(x: NativeTensor, angles: RopeAngles, heads: number, inverse = false): void {
  const [tokens, stride] = x.shape;
  const { cos, sin, index } = angles;
  if (cos.shape.length !== 2 || sin.shape.join() !== cos.shape.join() || index.size !== tokens)
    throw new Error(
      `rope: cos [${cos.shape}] and sin [${sin.shape}] must be [rows, head_dim / 2], and index [${index.shape}] ` +
        `must have one row of them for each of ${tokens} tokens`,
    );
  const headDim = cos.shape[1] * 2;
  addon.ops.rope({ x, cos, sin, index, tokens, heads, head_dim: headDim, stride, inverse });
}
