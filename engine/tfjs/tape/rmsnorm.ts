import type { Tensor } from '@tensorflow/tfjs-core';
import { defaultDevice } from '../../device/addon.js';
import { NativeTensor } from '../../device/native_tensor.js';
import { cast, fill } from '../../ops/elementwise.js';
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
  backward: ([dy], [x, w, rstd]) => gradients(dy, x, w, rstd),
});

const runAdded = tapeOp<'x' | 'residual' | 'w', { eps: number }>({
  name: 'AddRmsNorm',
  forward: ({ x, residual, w }, { eps }) => {
    const rows = asRows(x);
    const added = explicit.addRmsnorm(
      nativeOf(x, rows),
      nativeOf(residual, asRows(residual)),
      nativeOf(w),
      eps,
    );
    return [added.y.reshaped(x.shape), added.sum.reshaped(x.shape), added.rstd];
  },
  saved: { inputs: ['w'], results: [false, true, true] },
  backward: ([dy, dsum], [w, sum, rstd]) => {
    const { x: dx, w: dw } = gradients(dy, sum, w, rstd, nativeOf(dsum, asRows(sum)));
    const same = () => {
      const copy = dx.like();
      cast(copy, dx);
      return copy;
    };
    return { x: dx, residual: same, w: dw };
  },
});

/** y = x / √(mean(x²) + eps) · w for x […, dim], w [dim] (arXiv 1910.07467). Differentiable in x and w. */
export function rmsnorm<T extends Tensor>(x: T, w: Tensor, eps: number): T {
  const [y, rstd] = run({ x, w }, { eps });
  rstd.dispose();
  return y as T;
}

/** sum = x + residual and y = rmsnorm(sum), in one pass over memory. Differentiable in x, residual and w. */
export function addRmsnorm<T extends Tensor>(x: T, residual: T, w: Tensor, eps: number): { y: T; sum: T } {
  const [y, sum, rstd] = runAdded({ x, residual, w }, { eps });
  rstd.dispose();
  return { y: y as T, sum: sum as T };
}

function gradients(dy: Tensor, x: Tensor, w: Tensor, rstd: Tensor, dresidual?: NativeTensor) {
  const rows = asRows(x);
  const dw = NativeTensor.inArena(defaultDevice(), 'float32', w.shape);
  fill(dw, 0);
  const dx = explicit.rmsnormBackward(nativeOf(dy, rows), nativeOf(x, rows), nativeOf(w), nativeOf(rstd), {
    dw,
    dresidual,
  });
  return { x: dx.reshaped(x.shape), w: dw };
}
