import { type DataType, type TensorInfo, util } from '@tensorflow/tfjs-core';
import { fill as fillNative } from '../../ops/elementwise.js';
import type { NativeBackend, NumericType } from '../native_backend.js';
import { isNumeric, type NativeKernel } from './kernel.js';

// One value everywhere.

function filled(
  backend: NativeBackend,
  shape: readonly number[],
  dtype: NumericType,
  value: number,
): TensorInfo {
  const { info, native } = backend.output(shape, dtype);
  fillNative(native, value);
  return info;
}

const fill: NativeKernel = ({ attrs, backend }) => {
  const value = attrs.value as number | string;
  const dtype = (attrs.dtype as DataType | undefined) ?? util.inferDtype(value);
  const shape = attrs.shape as number[];
  if (dtype === 'string' || dtype === 'complex64') return undefined;
  // What storing the value in a typed array of that type would make of it.
  const stored =
    dtype === 'float32' ? Number(value) : dtype === 'int32' ? Number(value) | 0 : Number(value) ? 1 : 0;
  return filled(backend, shape, dtype, stored);
};

function like(value: number): NativeKernel {
  return ({ inputs, backend }) => {
    const x = inputs.x!;
    return isNumeric(x) ? filled(backend, x.shape, x.dtype as NumericType, value) : undefined;
  };
}

export const fillKernels: Record<string, NativeKernel> = {
  Fill: fill,
  ZerosLike: like(0),
  OnesLike: like(1),
};
