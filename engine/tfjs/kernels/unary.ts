import { addon } from '../../device/addon.js';
import { type NativeKernel, widened } from './kernel.js';

// Elementwise kernels of one float32 tensor, by their codes in the op table (native/ops.h, `unary`).

function unary(code: number): NativeKernel {
  return ({ inputs, backend }) => {
    const x = inputs.x!;
    if (x.dtype !== 'float32') return undefined;
    const { info, native } = backend.output(x.shape, 'float32');
    widened([backend.native(x)], (x) => addon.ops.unary(native.handle, x.handle, code, x.size));
    return info;
  };
}

export const unaryKernels: Record<string, NativeKernel> = {
  Neg: unary(0),
  Abs: unary(1),
  Square: unary(2),
  Sqrt: unary(3),
  Rsqrt: unary(4),
  Reciprocal: unary(5),
  Exp: unary(6),
  Log: unary(7),
  Sigmoid: unary(8),
  Tanh: unary(9),
};
