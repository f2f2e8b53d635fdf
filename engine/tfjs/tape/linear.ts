import type { Tensor } from '@tensorflow/tfjs-core';
import { defaultDevice } from '../../device/addon.js';
import { NativeTensor } from '../../device/native_tensor.js';
import { fill } from '../../ops/elementwise.js';
import * as explicit from '../../ops/linear.js';
import { nativeOf } from '../index.js';
import { asRows, tapeOp } from './tape_op.js';

const run = tapeOp<'x' | 'w', Record<never, never>>({
  name: 'Linear',
  forward: ({ x, w }) => [
    explicit.linear(nativeOf(x, asRows(x)), nativeOf(w)).reshaped([...x.shape.slice(0, -1), w.shape[0]]),
  ],
  saved: { inputs: ['x', 'w'] },
  backward: ([dy], [x, w]) => ({
    x: () => explicit.linearBackwardInput(nativeOf(dy, asRows(dy)), nativeOf(w)).reshaped(x.shape),
    w: () => {
      const dw = NativeTensor.inArena(defaultDevice(), 'float32', w.shape);
      fill(dw, 0);
      explicit.linearBackwardWeight(dw, nativeOf(dy, asRows(dy)), nativeOf(x, asRows(x)));
      return dw;
    },
  }),
});

/** x·Wᵀ […, out] of x […, in] and w [out, in], as Hugging Face files store it. Differentiable in both. */
export function linear<T extends Tensor>(x: T, w: Tensor): T {
  return run({ x, w }, {})[0] as T;
}
