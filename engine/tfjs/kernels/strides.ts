import type { Four } from '../../device/ops.js';

/** Row-major strides, in elements. */
export function denseStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

/** Strides that read a dense tensor of `shape` as if it were broadcast to `to`: 0 along repeated axes. */
export function broadcastStrides(shape: readonly number[], to: readonly number[]): number[] {
  const dense = denseStrides(shape);
  const missing = to.length - shape.length;
  return to.map((_, i) => (i < missing || shape[i - missing] === 1 ? 0 : dense[i - missing]));
}

/** A loop as the strided ops of the op table take it: sizes, and one stride for each of them and each operand. */
export interface Loop {
  shape: Four;
  strides: Four[];
}

/**
 * A loop over `shape` with one set of strides for each operand, in as few axes as it can be told. Undefined when it
 * needs more than four.
 */
export function loopOver(shape: readonly number[], ...operands: number[][]): Loop | undefined {
  const sizes: number[] = [];
  const strides: number[][] = operands.map(() => []);
  for (let i = 0; i < shape.length; i++) {
    if (shape[i] === 1) continue;
    const last = sizes.length - 1;
    // Walking on from the end of the inner axis is one step along the outer one.
    if (last >= 0 && operands.every((s, j) => strides[j][last] === s[i] * shape[i])) {
      sizes[last] *= shape[i];
      operands.forEach((s, j) => {
        strides[j][last] = s[i];
      });
    } else {
      sizes.push(shape[i]);
      operands.forEach((s, j) => {
        strides[j].push(s[i]);
      });
    }
  }
  const missing = 4 - sizes.length;
  if (missing < 0) return undefined;
  const padded = (values: number[], by: number) =>
    [...new Array<number>(missing).fill(by), ...values] as unknown as Four;
  return { shape: padded(sizes, 1), strides: strides.map((s) => padded(s, 0)) };
}
