import { addon } from '../device/addon.js';
import type { NativeTensor } from '../device/native_tensor.js';

/** y = value everywhere. */
export function fill(y: NativeTensor, value: number): void {
  addon.ops.fill({ y, n: y.size, value });
}

/**
 * y ~ N(0, std²), float32: a function of seed, stream and an element's place alone, on every instruction set. `place`: that
 * of the first one, which is even.
 */
export function fillNormal(
  y: NativeTensor,
  { seed, stream, place = 0, std }: { seed: number; stream: number; place?: number; std: number },
): void {
  addon.ops.fill_normal({ y, n: y.size, seed, stream, place, std });
}

/** y = x, of as many elements, in y's type: bfloat16 rounds to nearest even, int32 drops the fraction. */
export function cast(y: NativeTensor, x: NativeTensor): void {
  if (y.size !== x.size) throw new Error(`cast: y [${y.shape}] and x [${x.shape}] differ in size`);
  addon.ops.cast({ y, x, n: y.size });
}

/** y = a·x + b·z, for tensors of as many elements; y may be x or z, and z be left out. */
export function axpby(y: NativeTensor, a: number, x: NativeTensor, b = 0, z?: NativeTensor): void {
  if (y.size !== x.size || (z && z.size !== y.size))
    throw new Error(`axpby: y [${y.shape}], x [${x.shape}] and z [${z?.shape ?? ''}] differ in size`);
  addon.ops.axpby({ y, x, z, n: y.size, a, b });
}
