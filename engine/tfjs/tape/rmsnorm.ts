import type { Tensor } from '@tensorflow/tfjs-core';
import { defaultDevice } from '../../device/addon.js';
import { NativeTensor } from '../../device/native_tensor.js';
import { fill } from '../../ops/elementwise.js';
import * as explicit from '../../ops/rmsnorm.js';
import { nativeOf } from '../index.js';
import { asRows, tapeOp } from './tape_op.js';

const run = tapeOp<'x' | 'w', { eps: number }>({
  name: 'RmsNorm',
  forward: ({ x, w }, { eps }) => {
    const { y, rstd } = explicit.rmsnorm(nativeOf(x, asRows(x)), nativeOf(w), eps);
    return [y.reshaped(x.shape), rstd];
  },
  saved: { inputs: ['x', 'w'], results: [false, true] },
  backward: ([dy], [x, w, rstd]) => {
    const rows = asRows(x);
    const dw = NativeTensor.inArena(defaultDevice(), 'float32', w.shape);
    fill(dw, 0);
    const dx = explicit.rmsnormBackward(nativeOf(dy, rows), nativeOf(x, rows), nativeOf(w), nativeOf(rstd), {
      dw,
    });
    return { x: dx.reshaped(x.shape), w: dw };
  },
});

/** y = x / √(mean(x²) + eps) · w for x […, dim], w [dim] (arXiv 1910.07467). Differentiable in x and w. */
export function rmsnorm<T extends Tensor>(x: T, w: Tensor, eps: number): T {
  const [y, rstd] = run({ x, w }, { eps });
  rstd.dispose();
  return y as T;
}
