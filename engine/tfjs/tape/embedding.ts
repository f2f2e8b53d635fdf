import type { Tensor } from '@tensorflow/tfjs-core';
import { defaultDevice } from '../../device/addon.js';
import { NativeTensor } from '../../device/native_tensor.js';
import { fill } from '../../ops/elementwise.js';
import { gatherRows, scatterAddRows } from '../../ops/embedding.js';
import { nativeOf } from '../index.js';
import { asRows, checkRange, tapeOp } from './tape_op.js';

const run = tapeOp<'table' | 'ids', { tableShape: number[] }>({
  name: 'Embedding',
  forward: ({ table, ids }) => {
    checkRange('embedding', 'ids', ids, table.shape[0]);
    return [gatherRows(nativeOf(table), nativeOf(ids)).reshaped([...ids.shape, table.shape[1]])];
  },
  saved: { inputs: ['ids'] },
  backward: ([dy], [ids], { tableShape }) => ({
    table: () => {
      const dtable = NativeTensor.inArena(defaultDevice(), 'float32', tableShape);
      fill(dtable, 0);
      scatterAddRows(dtable, nativeOf(dy, asRows(dy)), nativeOf(ids));
      return dtable;
    },
  }),
});

/** table [rows, dim] at ids, int32 of any shape: […, dim]. Differentiable in the table. */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  return run({ table, ids }, { tableShape: table.shape })[0];
}
