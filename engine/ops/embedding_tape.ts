import type { Tensor } from '@tensorflow/tfjs-core';
import { addon } from '../backend/addon.js';
import { nativeOf } from '../backend/index.js';
import { NativeTensor } from '../backend/native_tensor.js';
import { gatherRows, scatterAddRows } from './embedding.js';
import { asRows, tapeOp } from './tape.js';

const run = tapeOp<'table' | 'ids', { tableShape: number[] }>({
  name: 'Embedding',
  forward: ({ table, ids }) => [
    gatherRows(nativeOf(table), nativeOf(ids)).reshaped([...ids.shape, table.shape[1]]),
  ],
  saved: { inputs: ['ids'] },
  backward: ([dy], [ids], { tableShape }) => ({
    table: () => {
      const dtable = NativeTensor.inArena('cpu', 'float32', tableShape);
      addon.ops.fill(dtable.handle, dtable.size, 0);
      scatterAddRows(dtable, nativeOf(dy, asRows(dy)), nativeOf(ids));
      return dtable;
    },
  }),
});

/** table [rows, dim] at ids, int32 of any shape: […, dim]. Differentiable in the table. */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  return run({ table, ids }, { tableShape: table.shape })[0];
}
