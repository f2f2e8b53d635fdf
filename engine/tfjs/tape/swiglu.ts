import type { Tensor } from '@tensorflow/tfjs-core';
import * as explicit from '../../ops/swiglu.js';
import { nativeOf } from '../index.js';
import { asRows, tapeOp } from './tape_op.js';

const run = tapeOp<'gateUp', Record<never, never>>({
  name: 'SwiGlu',
  forward: ({ gateUp }) => {
    const dim = gateUp.shape.at(-1)! / 2;
    return [explicit.swiglu(nativeOf(gateUp, asRows(gateUp))).reshaped([...gateUp.shape.slice(0, -1), dim])];
  },
  saved: { inputs: ['gateUp'] },
  backward: ([dy], [gateUp]) => ({
    gateUp: () =>
      explicit
        .swigluBackward(nativeOf(dy, asRows(dy)), nativeOf(gateUp, asRows(gateUp)))
        .reshaped(gateUp.shape),
  }),
});

/** silu(gate) · up of gateUp […, 2·dim], the halves of whose rows are gate and up (arXiv 2002.05202). Differentiable. */
export function swiglu<T extends Tensor>(gateUp: T): T {
  return run({ gateUp }, {})[0] as T;
}
