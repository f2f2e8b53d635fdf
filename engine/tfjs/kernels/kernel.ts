import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { NativeTensor } from '../../device/native_tensor.js';
import { cast } from '../../ops/elementwise.js';
import type { KernelArguments } from '../fallback.js';

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
  cast(copy, x);
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
