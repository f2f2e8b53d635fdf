import { util } from '@tensorflow/tfjs-core';
import { addon } from '../../device/addon.js';
import { type NativeTensor, sizeOf } from '../../device/native_tensor.js';
import type { Reduction } from '../../device/ops.js';
import { converted, type NativeKernel, widened } from './kernel.js';

// Sum, mean, maximum and minimum along axes.

/** The reduced axes as stretches of neighbours [from, to), the last stretch first. */
function stretches(axes: number[]): [number, number][] {
  const result: [number, number][] = [];
  for (const axis of axes.toSorted((a, b) => b - a)) {
    const last = result.at(-1);
    if (last && last[0] === axis + 1) last[0] = axis;
    else result.push([axis, axis + 1]);
  }
  return result;
}

/** Reduces one stretch after the other, each into memory of its own; `x` stays. */
function reduced(x: NativeTensor, op: Reduction, axes: number[]): NativeTensor {
  let from = x;
  for (const [first, end] of stretches(axes)) {
    const outer = from.shape.slice(0, first);
    const inner = from.shape.slice(end);
    const to = x.like([...outer, ...inner]);
    const n = sizeOf(from.shape.slice(first, end));
    addon.ops.reduce_axis({ y: to, x: from, op, outer: sizeOf(outer), n, inner: sizeOf(inner) });
    if (from !== x) from.dispose();
    from = to;
  }
  return from;
}

function reduction(
  op: Reduction,
  axisName: string,
  compute: (dtype: string) => 'float32' | 'int32' | undefined,
): NativeKernel {
  return ({ inputs, attrs, backend }) => {
    const x = inputs.x!;
    const axes = util.parseAxisParam(attrs[axisName] as number | number[], x.shape);
    const dtype = compute(x.dtype);
    if (!dtype || axes.length === 0 || x.shape.length === 0) return undefined;
    const kept = attrs.keepDims ? 1 : undefined;
    const shape = x.shape.flatMap((n, i) => (axes.includes(i) ? (kept ?? []) : n));
    const native = backend.native(x).reshaped(x.shape);
    const run = (values: NativeTensor) => backend.adopt(reduced(values, op, axes).reshaped(shape));
    if (x.dtype === dtype) return widened([native], run);
    const values = converted(native, dtype);
    const result = run(values);
    values.dispose();
    return result;
  };
}

const same = (dtype: string) => (dtype === 'float32' || dtype === 'int32' ? dtype : undefined);

export const reduceKernels: Record<string, NativeKernel> = {
  // Truth values are counted.
  Sum: reduction('sum', 'axis', (dtype) => (dtype === 'bool' ? 'int32' : same(dtype))),
  Mean: reduction('mean', 'axis', (dtype) => (same(dtype) || dtype === 'bool' ? 'float32' : undefined)),
  Max: reduction('max', 'reductionIndices', same),
  Min: reduction('min', 'axis', same),
};
