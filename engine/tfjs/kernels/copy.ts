import { backend_util, slice_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import { addon } from '../../device/addon.js';
import { type NativeTensor, sizeOf } from '../../device/native_tensor.js';
import type { NativeBackend, NumericType } from '../native_backend.js';
import { isNumeric, type NativeKernel, widened } from './kernel.js';
import { denseStrides, loopOver } from './strides.js';

// Kernels that only move values: each is one strided copy (native/ops.h, `copy_strided`) per tensor, of any dtype.

/** A new tensor of `shape`, each element read from x by `strides` from `offset` on. */
function gathered(
  backend: NativeBackend,
  x: TensorInfo,
  shape: readonly number[],
  strides: number[],
  offset = 0,
): TensorInfo | undefined {
  const loop = loopOver(shape, denseStrides(shape), strides);
  if (!loop) return undefined;
  const { info, native } = backend.output(shape, x.dtype as NumericType);
  const [y_strides, x_strides] = loop.strides;
  widened([backend.native(x)], (x) =>
    addon.ops.copy_strided({
      y: native,
      x,
      y_offset: 0,
      x_offset: offset,
      shape: loop.shape,
      y_strides,
      x_strides,
    }),
  );
  return info;
}

const transpose: NativeKernel = ({ inputs, attrs, backend }) => {
  const x = inputs.x!;
  if (!isNumeric(x)) return undefined;
  const perm = attrs.perm as number[];
  const strides = denseStrides(x.shape);
  return gathered(
    backend,
    x,
    perm.map((axis) => x.shape[axis]),
    perm.map((axis) => strides[axis]),
  );
};

const slice: NativeKernel = ({ inputs, attrs, backend }) => {
  const x = inputs.x!;
  if (!isNumeric(x)) return undefined;
  const [begin, size] = slice_util.parseSliceParams(x, attrs.begin as number[], attrs.size as number[]);
  slice_util.assertParamsValid(x, begin, size);
  const strides = denseStrides(x.shape);
  return gathered(backend, x, size, strides, slice_util.computeFlatOffset(begin, strides));
};

const padV2: NativeKernel = ({ inputs, attrs, backend }) => {
  const x = inputs.x!;
  if (!isNumeric(x)) return undefined;
  const paddings = attrs.paddings as [number, number][];
  const shape = x.shape.map((n, axis) => paddings[axis][0] + n + paddings[axis][1]);
  const strides = denseStrides(shape);
  const loop = loopOver(x.shape, strides, denseStrides(x.shape));
  if (!loop) return undefined;
  const [y_strides, x_strides] = loop.strides;
  const { info, native } = backend.output(shape, x.dtype as NumericType);
  addon.ops.fill({ y: native, n: native.size, value: attrs.constantValue as number });
  const begin = slice_util.computeFlatOffset(
    paddings.map(([before]) => before),
    strides,
  );
  widened([backend.native(x)], (x) => {
    if (x.size > 0)
      addon.ops.copy_strided({
        y: native,
        x,
        y_offset: begin,
        x_offset: 0,
        shape: loop.shape,
        y_strides,
        x_strides,
      });
  });
  return info;
};

const tile: NativeKernel = ({ inputs, attrs, backend }) => {
  const x = inputs.x!;
  const reps = attrs.reps as number[];
  if (!isNumeric(x) || reps.length !== x.shape.length) return undefined;
  const strides = denseStrides(x.shape);
  // Each axis is a repetition of itself: [n] as [reps, n].
  const copy = gathered(
    backend,
    x,
    x.shape.flatMap((n, axis) => [reps[axis], n]),
    strides.flatMap((stride) => [0, stride]),
  );
  return copy && { ...copy, shape: x.shape.map((n, axis) => n * reps[axis]) };
};

/** Copies the pieces, equal but for their length along `axis`, behind one another into a tensor of `shape`. */
function joined(backend: NativeBackend, pieces: TensorInfo[], shape: number[], axis: number): TensorInfo {
  const { info, native } = backend.output(shape, pieces[0].dtype as NumericType);
  const row = sizeOf(shape.slice(axis));
  const rows = sizeOf(shape.slice(0, axis));
  let at = 0;
  const place = (piece: NativeTensor) => {
    const length = rows === 0 ? 0 : piece.size / rows;
    addon.ops.copy_strided({
      y: native,
      x: piece,
      y_offset: at,
      x_offset: 0,
      shape: [1, 1, rows, length],
      y_strides: [0, 0, row, 1],
      x_strides: [0, 0, length, 1],
    });
    at += length;
  };
  for (const piece of pieces) widened([backend.native(piece)], place);
  return info;
}

/** The inputs of a kernel that takes a list, if their values lie in native memory. */
function listOf(inputs: object): TensorInfo[] | undefined {
  const list = Object.values(inputs) as TensorInfo[];
  return list.every((tensor) => isNumeric(tensor) && tensor.dtype === list[0].dtype) ? list : undefined;
}

const concat: NativeKernel = ({ inputs, attrs, backend }) => {
  const list = listOf(inputs);
  if (!list) return undefined;
  const [axis] = util.parseAxisParam(attrs.axis as number, list[0].shape);
  const shapes = list.map(({ shape }) => shape);
  backend_util.assertParamsConsistent(shapes, axis);
  return joined(backend, list, backend_util.computeOutShape(shapes, axis), axis);
};

const pack: NativeKernel = ({ inputs, attrs, backend }) => {
  const list = listOf(inputs);
  if (!list || list.some(({ shape }) => !util.arraysEqual(shape, list[0].shape))) return undefined;
  const { shape } = list[0];
  const axis = ((attrs.axis as number) + shape.length + 1) % (shape.length + 1);
  return joined(backend, list, [...shape.slice(0, axis), list.length, ...shape.slice(axis)], axis);
};

/** Cuts x along `axis` into stretches of these lengths; `shapeOf` gives each its shape. */
function cut(
  backend: NativeBackend,
  x: TensorInfo,
  axis: number,
  lengths: number[],
  shapeOf: (length: number) => number[],
): TensorInfo[] {
  const row = sizeOf(x.shape.slice(axis));
  const rows = sizeOf(x.shape.slice(0, axis));
  const inner = sizeOf(x.shape.slice(axis + 1));
  let at = 0;
  return lengths.map((count) => {
    const { info, native } = backend.output(shapeOf(count), x.dtype as NumericType);
    const length = count * inner;
    widened([backend.native(x)], (x) =>
      addon.ops.copy_strided({
        y: native,
        x,
        y_offset: 0,
        x_offset: at,
        shape: [1, 1, rows, length],
        y_strides: [0, 0, length, 1],
        x_strides: [0, 0, row, 1],
      }),
    );
    at += length;
    return info;
  });
}

const splitV: NativeKernel = ({ inputs, attrs, backend }) => {
  const x = inputs.x!;
  if (!isNumeric(x)) return undefined;
  const [axis] = util.parseAxisParam(attrs.axis as number, x.shape);
  const lengths = backend_util.prepareSplitSize(x as never, attrs.numOrSizeSplits as number[] | number, axis);
  return cut(backend, x, axis, lengths, (length) => x.shape.with(axis, length));
};

const unpack: NativeKernel = ({ inputs, attrs, backend }) => {
  const x = inputs.value!;
  if (!isNumeric(x)) return undefined;
  const axis = ((attrs.axis as number) + x.shape.length) % x.shape.length;
  const ones = new Array<number>(x.shape[axis]).fill(1);
  return cut(backend, x, axis, ones, () => x.shape.toSpliced(axis, 1));
};

export const copyKernels: Record<string, NativeKernel> = {
  Transpose: transpose,
  Slice: slice,
  PadV2: padV2,
  Tile: tile,
  Concat: concat,
  Pack: pack,
  SplitV: splitV,
  Unpack: unpack,
};
