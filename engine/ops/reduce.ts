import { addon, isMeta } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';

/** out [1] = Σ x over all elements of a float tensor, in float64, left on the device. */
export function sumInto(out: NativeTensor, x: NativeTensor): void {
  addon.ops.sum({ out, x, n: x.size });
}

/** out [1] = Σ x², likewise. */
export function sumSquaresInto(out: NativeTensor, x: NativeTensor): void {
  addon.ops.sum_squares({ out, x, n: x.size });
}

/** Σ x as a number, which waits for the device; 0 on `meta`. */
export function sum(x: NativeTensor): number {
  return read(sumInto, x);
}

/** Σ x², likewise. */
export function sumSquares(x: NativeTensor): number {
  return read(sumSquaresInto, x);
}

function read(reduceInto: typeof sumInto, x: NativeTensor): number {
  const out = NativeTensor.onHeap(x.device, 'float64', [1]);
  reduceInto(out, x);
  const value = isMeta(x.device) ? 0 : (out.read() as Float64Array)[0];
  out.dispose();
  return value;
}
