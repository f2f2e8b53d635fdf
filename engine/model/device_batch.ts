import { IGNORE_INDEX, type MicroBatch } from '../../batch.js';
import type { DeviceName } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';
import { type Documents, disposeDocuments, documentsOf } from '../ops/attention.js';
import type { RopeAngles } from '../ops/rope.js';
import { disposeAngles, type RopeTables } from './rope_tables.js';

/** A micro-batch on a device, with what the model derives from it. */
export interface DeviceBatch {
  tokens: number;
  ids: NativeTensor;
  documents: Documents;
  angles: RopeAngles;
  /** Positions that predict something, int32 [labels], and what they predict. */
  labelRows: NativeTensor;
  targets: NativeTensor;
  labels: number;
}

/** Copies a micro-batch to the device; dispose it with {@link disposeBatch}. */
export function toDevice(batch: MicroBatch, device: DeviceName, ropeTables: RopeTables): DeviceBatch {
  const { ids, targets, documentOffsets } = batch;
  const lengths = Array.from(documentOffsets.subarray(1), (end, j) => end - documentOffsets[j]);
  const rows: number[] = [];
  for (let i = 0; i < targets.length; i++) if (targets[i] !== IGNORE_INDEX) rows.push(i);
  return {
    tokens: ids.length,
    ids: NativeTensor.from(device, ids),
    documents: documentsOf(lengths, device),
    angles: ropeTables.angles(lengths),
    labelRows: NativeTensor.from(device, Int32Array.from(rows)),
    targets: NativeTensor.from(
      device,
      Int32Array.from(rows, (i) => targets[i]),
    ),
    labels: rows.length,
  };
}

export function disposeBatch(batch: DeviceBatch): void {
  batch.ids.dispose();
  disposeDocuments(batch.documents);
  disposeAngles(batch.angles);
  batch.labelRows.dispose();
  batch.targets.dispose();
}
