import type { Tensor } from '@tensorflow/tfjs-core';
import type { NativeTensor } from '../../device/native_tensor.js';
import { axpby, cast } from '../../ops/elementwise.js';
import { nativeOf } from '../index.js';
import { tapeOp } from './tape_op.js';

const run = tapeOp<'x' | 'residual', Record<never, never>>({
  name: 'ResidualAdd',
  forward: ({ x, residual }) => {
    if (residual.shape.join() !== x.shape.join())
      throw new Error(`residualAdd: x [${x.shape}] and residual [${residual.shape}] have different shapes`);
    const sum = nativeOf(x).like();
    axpby(sum, 1, nativeOf(x), 1, nativeOf(residual));
    return [sum];
  },
  saved: { inputs: [] },
  backward: ([dsum]) => ({ x: () => copyOf(nativeOf(dsum)), residual: () => copyOf(nativeOf(dsum)) }),
});

/** x + residual, of one shape. Differentiable in both; unlike tf.add it keeps neither for the gradient. */
export function residualAdd<T extends Tensor>(x: T, residual: T): T {
  return run({ x, residual }, {})[0] as T;
}

function copyOf(t: NativeTensor): NativeTensor {
  const copy = t.like();
  cast(copy, t);
  return copy;
}
