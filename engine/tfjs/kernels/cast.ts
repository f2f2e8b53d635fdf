import type { DataType } from '@tensorflow/tfjs-core';
import { addon } from '../../device/addon.js';
import type { NumericType } from '../native_backend.js';
import { isNumeric, type NativeKernel } from './kernel.js';

// float32 to int32 drops the fraction; anything to bool is x ≠ 0. The dtype it already has costs nothing.

const cast: NativeKernel = ({ inputs, attrs, backend }) => {
  const x = inputs.x!;
  const dtype = attrs.dtype as DataType;
  if (dtype === x.dtype) return backend.share(x);
  if (!isNumeric(x) || !isNumeric({ ...x, dtype })) return undefined;
  const { info, native } = backend.output(x.shape, dtype as NumericType);
  addon.ops.cast({ y: native, x: backend.native(x), n: native.size });
  return info;
};

export const castKernels: Record<string, NativeKernel> = { Cast: cast };
