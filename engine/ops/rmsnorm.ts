import { addon } from '../device/addon.js';
import type { NativeTensor } from '../device/native_tensor.js';

// RMSNorm (arXiv 1910.07467): y = x / √(mean(x²) + eps) · w, with mean and root in float32.

export interface RmsNorm {
  y: NativeTensor;
  /** 1/√(mean(x²)+eps) of each row, float32 [rows]: what backward needs. */
  rstd: NativeTensor;
}

/** y and rstd of x [rows, dim]; w [dim]. */
export function rmsnorm(x: NativeTensor, w: NativeTensor, eps: number): RmsNorm {
  const [rows, dim] = sizes('rmsnorm', x, w);
  const out = { y: x.like(), rstd: x.like([rows], 'float32') };
  addon.ops.rmsnorm_forward({ y: out.y, rstd: out.rstd, x, w, rows, dim, eps });
  return out;
}

/**
 * dx [rows, dim] of dy, plus `dresidual` (the gradient that reaches x around the norm) when given; adds the
 * gradient of w to `dw` when given.
 */
export function rmsnormBackward(
  dy: NativeTensor,
  x: NativeTensor,
  w: NativeTensor,
  rstd: NativeTensor,
  { dw, dresidual }: { dw?: NativeTensor; dresidual?: NativeTensor } = {},
): NativeTensor {
  const [rows, dim] = sizes('rmsnormBackward', x, w);
  const dx = x.like();
  addon.ops.rmsnorm_backward({ dx, dw, dy, x, w, rstd, dresidual, rows, dim });
  return dx;
}

function sizes(op: string, x: NativeTensor, w: NativeTensor): [number, number] {
  const [rows, dim] = x.shape;
  if (x.shape.length !== 2 || w.size !== dim)
    throw new Error(`${op}: x [${x.shape}] and w [${w.shape}] do not fit`);
  return [rows, dim];
}
