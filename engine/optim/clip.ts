import { addon } from '../device/addon.js';
import type { NativeTensor } from '../device/native_tensor.js';

/**
 * What brings a gradient of Σ g² = `squares` down to the norm `maxNorm`: min(1, maxNorm / (norm + 1e-6)), as
 * torch.nn.utils.clip_grad_norm_ has it; 1 when maxNorm is 0 (no clipping, as in Hugging Face's Trainer). Norm and factor
 * go to `update`, float64 {step, learning rate, norm, factor}, and are NaN when the norm or one of `losses` (float64) is
 * not finite, then and ever after: no update follows.
 */
export function clip(
  update: NativeTensor,
  squares: NativeTensor,
  losses: NativeTensor | undefined,
  maxNorm: number,
): void {
  addon.ops.clip_scale({ update, squares, losses, n: losses?.size ?? 0, max_norm: maxNorm });
}
