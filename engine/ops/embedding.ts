import { addon } from '../device/addon.js';
import type { NativeTensor } from '../device/native_tensor.js';

/** y [n, dim] = table[ids], for ids int32 [n] and table [rows, dim]: the embedding, or a choice of rows. */
export function gatherRows(table: NativeTensor, ids: NativeTensor): NativeTensor {
  const [rows, dim] = rowsOf('gatherRows', table);
  const y = table.like([ids.size, dim]);
  addon.ops.gather_rows({ y, table, ids, rows: ids.size, dim, table_rows: rows });
  return y;
}

/**
 * table[ids[i]] = columns `column` … of row i of x [n, ≥ column + dim], for table [rows, dim]: new tokens go to their
 * rows of a cache. No two ids may be equal.
 */
export function scatterRows(table: NativeTensor, x: NativeTensor, ids: NativeTensor, column = 0): void {
  const [rows, dim] = rowsOf('scatterRows', table);
  const [n, stride] = x.shape;
  if (x.shape.length !== 2 || n !== ids.size || stride < column + dim)
    throw new Error(
      `scatterRows: x [${x.shape}] has no row of ${dim} from column ${column} on for each of ${ids.size} ids`,
    );
  const from = x.view([Math.max(0, x.size - column)], n > 0 ? column : 0);
  addon.ops.scatter_rows({ table, x: from, ids, rows: n, dim, x_stride: stride, table_rows: rows });
  from.dispose();
}

/** table[ids[i]] += dy[i] in the order of i: the gradient of gatherRows. */
export function scatterAddRows(table: NativeTensor, dy: NativeTensor, ids: NativeTensor): void {
  const [rows, dim] = rowsOf('scatterAddRows', table);
  if (dy.size !== ids.size * dim)
    throw new Error(`scatterAddRows: dy [${dy.shape}] has no row of ${dim} for each of ${ids.size} ids`);
  addon.ops.scatter_add_rows({ table, dy, ids, rows: ids.size, dim, table_rows: rows });
}

function rowsOf(op: string, table: NativeTensor): readonly number[] {
  if (table.shape.length !== 2)
    throw new Error(`${op}: the table has the shape [${table.shape}], not [rows, dim]`);
  return table.shape;
}
