/**
 * The 16-bit floating point formats of checkpoints as float32. Every value of both formats is a float32 value,
 * so widening is exact: bit patterns go in, bit patterns come out, NaN payloads included.
 */

/** bfloat16 is the upper half of a float32. `to` holds at least as many elements as `from`. */
export function widenBfloat16(from: Uint16Array, to: Float32Array): void {
  const bits = new Uint32Array(to.buffer, to.byteOffset, from.length);
  for (let i = 0; i < from.length; i++) bits[i] = from[i] << 16;
}

/** IEEE 754 binary16. `to` holds at least as many elements as `from`. */
export function widenFloat16(from: Uint16Array, to: Float32Array): void {
  const bits = new Uint32Array(to.buffer, to.byteOffset, from.length);
  float16Bits ??= Uint32Array.from({ length: 0x1_0000 }, (_, half) => bitsOfFloat16(half));
  for (let i = 0; i < from.length; i++) bits[i] = float16Bits[from[i]];
}

/** The float32 bits of all 65,536 patterns: a look-up is several times faster than taking each value apart. */
let float16Bits: Uint32Array | undefined;

function bitsOfFloat16(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f80_0000 | (fraction << 13);
  if (exponent > 0) return sign | ((exponent + 127 - 15) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  // Subnormal: fraction · 2^-24, whose leading one becomes float32's implicit one.
  const shift = Math.clz32(fraction) - 21;
  return sign | ((127 - 14 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
}
