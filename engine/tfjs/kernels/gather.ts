import { util } from '@tensorflow/tfjs-core';
import { addon } from '../../device/addon.js';
import { sizeOf } from '../../device/native_tensor.js';
import type { NumericType } from '../native_backend.js';
import { isNumeric, type NativeKernel, widened } from './kernel.js';

// Rows of a table by index, and the sum of rows by index, which is the gradient of the former.

const gather: NativeKernel = ({ inputs, attrs, backend }) => {
  const x = inputs.x!;
  const indices = inputs.indices!;
  const [axis] = util.parseAxisParam(attrs.axis as number, x.shape);
  if (axis !== 0 || attrs.batchDims || !isNumeric(x) || indices.dtype !== 'int32') return undefined;
  const ids = backend.native(indices);
  const [rows, ...row] = x.shape;
  // Indices out of range: the reference kernel says it in TF.js's words.
  if (outside(ids.read() as Int32Array, rows)) return undefined;
  const { info, native } = backend.output([...indices.shape, ...row], x.dtype as NumericType);
  widened([backend.native(x)], (table) =>
    addon.ops.gather_rows({ y: native, table, ids, rows: ids.size, dim: sizeOf(row), table_rows: rows }),
  );
  return info;
};

const unsortedSegmentSum: NativeKernel = ({ inputs, attrs, backend }) => {
  const x = inputs.x!;
  const segmentIds = inputs.segmentIds!;
  const numSegments = attrs.numSegments as number;
  if (x.dtype !== 'float32' || segmentIds.dtype !== 'int32') return undefined;
  const rank = segmentIds.shape.length;
  if (!util.arraysEqual(x.shape.slice(0, rank), segmentIds.shape)) return undefined;
  const ids = backend.native(segmentIds);
  // TF.js drops rows whose segment does not exist.
  if (outside(ids.read() as Int32Array, numSegments)) return undefined;
  const row = x.shape.slice(rank);
  const { info, native } = backend.output([numSegments, ...row], 'float32');
  addon.ops.fill({ y: native, n: native.size, value: 0 });
  addon.ops.scatter_add_rows({
    table: native,
    dy: backend.native(x),
    ids,
    rows: ids.size,
    dim: sizeOf(row),
    table_rows: numSegments,
  });
  return info;
};

function outside(ids: Int32Array, rows: number): boolean {
  return ids.some((id) => id < 0 || id >= rows);
}

export const gatherKernels: Record<string, NativeKernel> = {
  GatherV2: gather,
  UnsortedSegmentSum: unsortedSegmentSum,
};
