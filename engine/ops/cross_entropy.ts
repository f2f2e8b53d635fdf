import { addon } from '../device/addon.js';
import type { NativeTensor } from '../device/native_tensor.js';

/**
 * loss[row] = −log softmax(logits[row])[target], float32 [rows], for logits [rows, classes] and targets int32 [rows]. The
 * gradient of Σ weights[row]·loss[row] goes to `dlogits`, which may be the logits themselves.
 */
export function crossEntropy(
  loss: NativeTensor,
  logits: NativeTensor,
  targets: NativeTensor,
  gradient?: { weights: NativeTensor; dlogits: NativeTensor },
): void {
  const [rows, vocab] = logits.shape;
  addon.ops.cross_entropy({ loss, logits, targets, ...gradient, rows, vocab });
}
