import { addon } from '../device/addon.js';
import type { NativeTensor } from '../device/native_tensor.js';

// Columns of matrices: what biases and adapters of a part of a matrix need.

/** y[:, offset …] += x for x [rows, columns] and y [rows, ≥ offset + columns], of one type. */
export function addColumns(y: NativeTensor, x: NativeTensor, offset: number): void {
  const [rows, columns] = x.shape;
  if (y.shape[0] !== rows) throw new Error(`addColumns: y [${y.shape}] and x [${x.shape}] differ in rows`);
  addon.ops.add_columns({ y, x, rows, columns, y_stride: y.shape[1], y_offset: offset, x_stride: columns });
}

/** y[row] += b for each row of y [rows, n], b [n] of its type. */
export function addBias(y: NativeTensor, b: NativeTensor): void {
  const [rows, n] = y.shape;
  if (b.size !== n) throw new Error(`addBias: y [${y.shape}] and b [${b.shape}] do not fit`);
  addon.ops.add_columns({ y, x: b, rows, columns: n, y_stride: n, y_offset: 0, x_stride: 0 });
}

/** y[row, offset …] += x for each row of y [rows, ≥ offset + n], x [n] of its type. */
export function addToColumns(y: NativeTensor, x: NativeTensor, offset: number): void {
  const [rows, n] = y.shape;
  addon.ops.add_columns({ y, x, rows, columns: x.size, y_stride: n, y_offset: offset, x_stride: 0 });
}

/** db [n] += Σ_row dy[row], for dy [rows, n]: the gradient of a bias. */
export function biasBackward(db: NativeTensor, dy: NativeTensor): void {
  const [rows, n] = dy.shape;
  if (db.size !== n) throw new Error(`biasBackward: dy [${dy.shape}] and db [${db.shape}] do not fit`);
  addon.ops.sum_columns({ y: db, x: dy, rows, columns: n });
}

/** Columns offset … offset + columns − 1 of x [rows, n], as a matrix of their own: `into`, or a new arena tensor. */
export function takeColumns(
  x: NativeTensor,
  offset: number,
  columns: number,
  into?: NativeTensor,
): NativeTensor {
  const [rows, n] = x.shape;
  if (offset + columns > n)
    throw new Error(`takeColumns: x [${x.shape}] has no columns ${offset}…${offset + columns}`);
  const y = into ?? x.like([rows, columns]);
  addon.ops.copy_strided({
    y,
    x,
    y_offset: 0,
    x_offset: offset,
    shape: [1, 1, rows, columns],
    y_strides: [0, 0, columns, 1],
    x_strides: [0, 0, n, 1],
  });
  return y;
}
