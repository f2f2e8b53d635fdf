import type { Tensor, TensorInfo } from '@tensorflow/tfjs-core';
import type { NativeTensor } from '../../device/native_tensor.js';
import { cast } from '../../ops/elementwise.js';
import { ropeInPlace } from '../../ops/rope.js';
import { nativeOf } from '../index.js';
import { asRows, checkRange, tapeOp } from './tape_op.js';

type Angles = { cos: TensorInfo; sin: TensorInfo; index: TensorInfo };

const run = tapeOp<'x' | 'cos' | 'sin' | 'index', { heads: number }>({
  name: 'Rope',
  forward: ({ x, ...angles }, { heads }) => {
    checkRange('rope', 'index', angles.index, angles.cos.shape[0]);
    return [turned(x, angles, heads, false)];
  },
  saved: { inputs: ['cos', 'sin', 'index'] },
  backward: ([dy], [cos, sin, index], { heads }) => ({
    x: () => turned(dy, { cos, sin, index }, heads, true),
  }),
});

/**
 * x [tokens, width] with the first `heads` heads of each row turned by the angles of its token: cos and sin float32
 * [rows, D/2] (model/rope_tables.ts makes them), index int32 [tokens] the row of each. Half-split form, as Hugging
 * Face has it (arXiv 2104.09864). Differentiable in x.
 */
export function rope<T extends Tensor>(
  x: T,
  angles: { cos: Tensor; sin: Tensor; index: Tensor },
  heads: number,
): T {
  return run({ x, ...angles }, { heads })[0] as T;
}

function turned(x: TensorInfo, { cos, sin, index }: Angles, heads: number, inverse: boolean): NativeTensor {
  const from = nativeOf(x, asRows(x));
  const to = from.like();
  cast(to, from);
  ropeInPlace(to, { cos: nativeOf(cos), sin: nativeOf(sin), index: nativeOf(index) }, heads, inverse);
  return to.reshaped(x.shape);
}
