import { addon } from '../device/addon.js';
import type { NativeTensor } from '../device/native_tensor.js';

// A float32 as two numbers of 16 bits: the nearest bfloat16, ties away from zero, and what that leaves.

/** high, bfloat16, and low (optional), int16, of x, float32 of as many elements. */
export function splitFloat(high: NativeTensor, low: NativeTensor | undefined, x: NativeTensor): void {
  if (high.size !== x.size || (low && low.size !== x.size))
    throw new Error(
      `splitFloat: high [${high.shape}], low [${low?.shape ?? ''}] and x [${x.shape}] differ in size`,
    );
  addon.ops.split_float({ high, low, x, n: x.size });
}

/** x, float32, of both: the value that was split, to the last bit. */
export function joinFloat(x: NativeTensor, high: NativeTensor, low: NativeTensor): void {
  if (high.size !== x.size || low.size !== x.size)
    throw new Error(`joinFloat: x [${x.shape}], high [${high.shape}] and low [${low.shape}] differ in size`);
  addon.ops.join_float({ x, high, low, n: x.size });
}
