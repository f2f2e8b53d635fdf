import type { NativeTensor } from '../device/native_tensor.js';
import { sumSquares } from '../ops/reduce.js';

/** The 2-norm of all gradients together. */
export function globalNorm(flat: NativeTensor): number {
  return Math.sqrt(sumSquares(flat));
}

/**
 * The factor that brings a gradient of this norm down to `maxNorm`: min(1, maxNorm / (norm + 1e-6)), as
 * torch.nn.utils.clip_grad_norm_ has it; 1 when maxNorm is 0 (no clipping, as in Hugging Face's Trainer).
 */
export function clipFactor(norm: number, maxNorm: number): number {
  return maxNorm > 0 ? Math.min(1, maxNorm / (norm + 1e-6)) : 1;
}
