import { addon } from '../../device/addon.js';
import type { Unary } from '../../device/ops.js';
import { type NativeKernel, widened } from './kernel.js';

// Elementwise kernels of one float32 tensor.

function unary(op: Unary): NativeKernel {
  return ({ inputs, backend }) => {
    const x = inputs.x!;
    if (x.dtype !== 'float32') return undefined;
    const { info, native } = backend.output(x.shape, 'float32');
    widened([backend.native(x)], (x) => addon.ops.unary({ y: native, x, op, n: x.size }));
    return info;
  };
}

export const unaryKernels: Record<string, NativeKernel> = {
  Neg: unary('negate'),
  Abs: unary('abs'),
  Square: unary('square'),
  Sqrt: unary('sqrt'),
  Rsqrt: unary('rsqrt'),
  Reciprocal: unary('reciprocal'),
  Exp: unary('exp'),
  Log: unary('log'),
  Sigmoid: unary('sigmoid'),
  Tanh: unary('tanh'),
};
