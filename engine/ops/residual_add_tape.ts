import type { Tensor } from '@tensorflow/tfjs-core';
import { addon } from '../backend/addon.js';
import { nativeOf } from '../backend/index.js';
import type { NativeTensor } from '../backend/native_tensor.js';
import { tapeOp } from './tape.js';

const run = tapeOp<'x' | 'residual', Record<never, never>>({
  name: 'ResidualAdd',
  forward: ({ x, residual }) => {
    if (residual.shape.join() !== x.shape.join())
      throw new Error(`residualAdd: x [${x.shape}] and residual [${residual.shape}] have different shapes`);
    const sum = nativeOf(x).like();
    addon.ops.axpby(sum.handle, nativeOf(x).handle, nativeOf(residual).handle, sum.size, 1, 1);
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
  addon.ops.cast(copy.handle, t.handle, t.size);
  return copy;
}
