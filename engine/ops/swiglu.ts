import { addon } from '../device/addon.js';
import type { NativeTensor } from '../device/native_tensor.js';

// SwiGLU (arXiv 2002.05202): y = silu(gate) · up, silu(g) = g / (1 + e⁻ᵍ).

/** y [rows, dim] of gateUp [rows, 2·dim], the two halves of each row being gate and up. */
export function swiglu(gateUp: NativeTensor): NativeTensor {
  const [rows, both] = gateUp.shape;
  if (both % 2) throw new Error(`swiglu: rows of ${both} elements are not a gate and an up of one size`);
  const y = gateUp.like([rows, both / 2]);
  addon.ops.swiglu_forward({ y, gate_up: gateUp, rows, dim: both / 2 });
  return y;
}

/**
 * Writes d(gateUp) over gateUp, and the forward value y over dy: the weight gradient that follows needs y, which
 * therefore need not be kept from the forward pass.
 */
export function swigluBackwardInPlace(
  dy: NativeTensor,
  gateUp: NativeTensor,
): { dgateUp: NativeTensor; y: NativeTensor } {
  const [rows, dim] = dy.shape;
  addon.ops.swiglu_backward({ dgate_up: gateUp, y: dy, dy, gate_up: gateUp, rows, dim });
  return { dgateUp: gateUp, y: dy };
}

/** d(gateUp) [rows, 2·dim] of dy [rows, dim]. */
export function swigluBackward(dy: NativeTensor, gateUp: NativeTensor): NativeTensor {
  const dgateUp = gateUp.like();
  addon.ops.swiglu_backward({ dgate_up: dgateUp, dy, gate_up: gateUp, rows: dy.shape[0], dim: dy.shape[1] });
  return dgateUp;
}
