import { addon } from '../device/addon.js';
import type { NativeTensor } from '../device/native_tensor.js';

// y = x·Wᵀ with W [out, in], as PyTorch and Hugging Face files store it.

/**
 * y [rows, out] = x [rows, in] · w [out, in]ᵀ, plus `addend` [rows, out] when given, in x's type; `into` receives it
 * instead of a new arena tensor.
 */
export function linear(
  x: NativeTensor,
  w: NativeTensor,
  { into, addend }: { into?: NativeTensor; addend?: NativeTensor } = {},
): NativeTensor {
  const [rows, n, k] = sizes('linear', x, w, 1);
  const y = into ?? x.like([rows, n]);
  addon.ops.gemm({ c: y, a: x, b: w, addend, m: rows, n, k, trans_a: false, trans_b: true });
  return y;
}

/** dx [rows, in] = dy [rows, out] · w [out, in], in dy's type; `into` as above. */
export function linearBackwardInput(dy: NativeTensor, w: NativeTensor, into?: NativeTensor): NativeTensor {
  const [rows, n, k] = sizes('linearBackwardInput', dy, w, 0);
  const dx = into ?? dy.like([rows, n]);
  addon.ops.gemm({ c: dx, a: dy, b: w, m: rows, n, k, trans_a: false, trans_b: false });
  return dx;
}

/** dx [rows, in] += dy [rows, out] · w [out, in]. */
export function addLinearBackwardInput(dx: NativeTensor, dy: NativeTensor, w: NativeTensor): void {
  const [rows, n, k] = sizes('addLinearBackwardInput', dy, w, 0);
  addon.ops.gemm({ c: dx, a: dy, b: w, addend: dx, m: rows, n, k, trans_a: false, trans_b: false });
}

/** dw [out, in], of x's type or float32, += dy [rows, out]ᵀ · x [rows, in]; or = that, where it does not accumulate. */
export function linearBackwardWeight(
  dw: NativeTensor,
  dy: NativeTensor,
  x: NativeTensor,
  { accumulate = true }: { accumulate?: boolean } = {},
): void {
  const rows = x.shape[0];
  const [out, inner] = dw.shape;
  if (dy.shape[0] !== rows || dy.shape[1] !== out || x.shape[1] !== inner)
    throw new Error(`linearBackwardWeight: dy [${dy.shape}], x [${x.shape}] and dw [${dw.shape}] do not fit`);
  addon.ops.gemm({
    c: dw,
    a: dy,
    b: x,
    addend: accumulate ? dw : undefined,
    m: out,
    n: inner,
    k: rows,
    trans_a: true,
    trans_b: false,
  });
}

/** [rows, columns of the result, length of the sum] for x [rows, k] and w, whose axis `axis` is summed. */
function sizes(op: string, x: NativeTensor, w: NativeTensor, axis: 0 | 1): [number, number, number] {
  const [rows, k] = x.shape;
  if (x.shape.length !== 2 || w.shape.length !== 2 || w.shape[axis] !== k)
    throw new Error(`${op}: [${x.shape}] and w [${w.shape}] do not fit`);
  return [rows, w.shape[1 - axis], k];
}
