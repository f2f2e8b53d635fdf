import { backend_util } from '@tensorflow/tfjs-core';
import { addon } from '../../device/addon.js';
import type { Binary } from '../../device/ops.js';
import { type NativeKernel, widened } from './kernel.js';
import { broadcastStrides, loopOver } from './strides.js';

// Elementwise kernels of two tensors that broadcast.

function binary(
  op: Binary,
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
    const [a_strides, b_strides] = loop.strides;
    const { info, native } = backend.output(
      shape,
      result === 'bool' ? 'bool' : (a.dtype as 'float32' | 'int32'),
    );
    widened([backend.native(a), backend.native(b)], (a, b) =>
      addon.ops.binary({ y: native, a, b, op, shape: loop.shape, a_strides, b_strides }),
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
    addon.ops.axpby({ y: native, x: sum, z: backend.native(term), n: native.size, a: 1, b: 1 });
    sum = native;
  }
  return info;
};

export const binaryKernels: Record<string, NativeKernel> = {
  Add: binary('add'),
  Sub: binary('subtract'),
  Multiply: binary('multiply'),
  RealDiv: binary('divide', 'operand', ['float32']),
  Maximum: binary('maximum'),
  Minimum: binary('minimum'),
  SquaredDifference: binary('squared_difference'),
  Equal: binary('equal', 'bool'),
  NotEqual: binary('not_equal', 'bool'),
  Less: binary('less', 'bool'),
  LessEqual: binary('less_equal', 'bool'),
  Greater: binary('greater', 'bool'),
  GreaterEqual: binary('greater_equal', 'bool'),
  AddN: addN,
};
