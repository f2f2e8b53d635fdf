import type { TensorInfo } from '@tensorflow/tfjs-core';
import { addon } from '../addon.js';
import type { KernelArguments } from '../fallback.js';
import type { NativeTensor } from '../native_tensor.js';

/**
 * The native form of a TF.js kernel. It returns undefined, before it has allocated anything, for inputs it does not
 * cover (a dtype, a rank); those run on the CPU reference backend.
 */
export type NativeKernel = (args: KernelArguments) => TensorInfo | TensorInfo[] | undefined;

/** Whether the values of a tensor lie in native memory. */
export function isNumeric({ dtype }: TensorInfo): boolean {
  return dtype === 'float32' || dtype === 'int32' || dtype === 'bool';
}

/** A copy of another type, to be disposed by the caller. */
export function converted(x: NativeTensor, dtype: 'float32' | 'int32'): NativeTensor {
  const copy = x.like(x.shape, dtype);
  addon.ops.cast(copy.handle, x.handle, x.size);
  return copy;
}

/** Calls `use` with the tensors, those in bfloat16 as float32: TF.js's ops calculate and store in that. */
export function widened<R>(tensors: NativeTensor[], use: (...wide: NativeTensor[]) => R): R {
  const copies: NativeTensor[] = [];
  const wide = tensors.map((tensor) => {
    if (tensor.dtype !== 'bfloat16') return tensor;
    const copy = converted(tensor, 'float32');
    copies.push(copy);
    return copy;
  });
  try {
    return use(...wide);
  } finally {
    for (const copy of copies) copy.dispose();
  }
}
