import { type Tensor, type Tensor1D, tensor1d, tidy } from '@tensorflow/tfjs-core';
import { IGNORE_INDEX } from '../../../batch.js';
import { defaultDevice } from '../../device/addon.js';
import { NativeTensor } from '../../device/native_tensor.js';
import { fill } from '../../ops/elementwise.js';
import * as explicit from '../../ops/linear_cross_entropy.js';
import { nativeOf } from '../index.js';
import { embedding } from './embedding.js';
import { checkRange, tapeOp } from './tape_op.js';

const run = tapeOp<'h' | 'w' | 'targets', Record<never, never>>({
  name: 'LinearCrossEntropy',
  forward: ({ h, w, targets }) => {
    checkRange('linearCrossEntropy', 'targets', targets, w.shape[0]);
    return [explicit.linearCrossEntropy(nativeOf(h), nativeOf(w), nativeOf(targets))];
  },
  saved: { inputs: ['h', 'w', 'targets'] },
  backward: ([dloss], [h, w, targets]) => {
    const dw = NativeTensor.inArena(defaultDevice(), 'float32', w.shape);
    fill(dw, 0);
    const { loss, dh } = explicit.linearCrossEntropyWithGradient(
      nativeOf(h),
      nativeOf(w),
      nativeOf(targets),
      nativeOf(dloss),
      dw,
    );
    loss.dispose();
    return { h: dh, w: dw };
  },
});

/**
 * The language-model head and its loss: logsumexp(h[i]·Wᵀ) − (h[i]·Wᵀ)[target[i]] of each labelled position (target
 * not −100), in order, for h [rows, dim], w [vocab, dim], targets int32 [rows]. The logits never exist as a whole.
 * Differentiable in h and w.
 */
export function linearCrossEntropy(h: Tensor, w: Tensor, targets: Tensor): Tensor1D {
  return tidy(() => {
    const ids = targets.dataSync();
    const labelled: number[] = [];
    ids.forEach((id, row) => {
      if (id !== IGNORE_INDEX) labelled.push(row);
    });
    if (labelled.length === ids.length) return run({ h, w, targets }, {})[0] as Tensor1D;
    const rows = tensor1d(labelled, 'int32');
    const chosen = tensor1d(
      labelled.map((row) => ids[row]),
      'int32',
    );
    return run({ h: embedding(h, rows), w, targets: chosen }, {})[0] as Tensor1D;
  });
}
