import type { NativeTensor } from '../engine/device/native_tensor.js';
import { sum } from '../engine/ops/reduce.js';

/** The sum of the losses that a backward pass returns; disposes them. */
export function lossSum(losses: NativeTensor): number {
  const total = sum(losses);
  losses.dispose();
  return total;
}
