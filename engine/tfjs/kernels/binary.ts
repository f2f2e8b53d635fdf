import { backend_util } from '@tensorflow/tfjs-core';
import { addon } from '../../device/addon.js';
import { type NativeKernel, widened } from './kernel.js';
import { broadcastStrides, loopOver } from './strides.js';

// Elementwise kernels of two tensors that broadcast, by their codes in the op table (native/ops.h, `binary`).

function binary(
  code: number,
  result: 'operand' | 'bool' = 'operand',
  dtypes = ['float32', 'int32'],
): NativeKernel {
  return ({ inputs, backend }) => {
    const a = inputs.a!;
    const b = inputs.b!;
    if (a.dtype !== b.dtype || !dtypes.includes(a.dtype)) return undefined;
    const shape = backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
    const loop = loopOver(shape, broadcastStrides(a.shape, shape), broadcastStrides(b.shape, shape));
    if (!loop) return undefined;
    const { info, native } = backend.output(
      shape,
      result === 'bool' ? 'bool' : (a.dtype as 'float32' | 'int32'),
    );
    widened([backend.native(a), backend.native(b)], (a, b) =>
      addon.ops.binary(native.handle, a.handle, b.handle, code, ...loop),
    );
    return info;
  };
}

const addN: NativeKernel = ({ inputs, backend }) => {
  const terms = Object.values(inputs).map((input) => input!);
  if (terms.some(({ dtype }) => dtype !== 'float32')) return undefined;
  if (terms.length === 1) return backend.share(terms[0]);
  const { info, native } = backend.output(terms[0].shape, 'float32');
  let sum = backend.native(terms[0]);
  for (const term of terms.slice(1)) {
    addon.ops.axpby(native.handle, sum.handle, backend.native(term).handle, native.size, 1, 1);
    sum = native;
  }
  return info;
};

export const binaryKernels: Record<string, NativeKernel> = {
  Add: binary(0),
  Sub: binary(1),
  Multiply: binary(2),
  RealDiv: binary(3, 'operand', ['float32']),
  Maximum: binary(4),
  Minimum: binary(5),
  SquaredDifference: binary(6),
  Equal: binary(7, 'bool'),
  NotEqual: binary(8, 'bool'),
  Less: binary(9, 'bool'),
  LessEqual: binary(10, 'bool'),
  Greater: binary(11, 'bool'),
  GreaterEqual: binary(12, 'bool'),
  AddN: addN,
};
