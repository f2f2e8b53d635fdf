import { IGNORE_INDEX, type MicroBatch } from '../../batch.js';
import { NativeTensor, release } from '../device/native_tensor.js';
import { type Documents, documentsFrom, documentTensors, wholeDocuments } from '../ops/attention.js';
import type { RopeAngles } from '../ops/rope.js';
import type { Parameters } from './parameters.js';
import type { RopeTables } from './rope_tables.js';

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

/**
 * Copies a micro-batch to the device, its small arrays as one block; dispose it with {@link disposeBatch}.
 * @throws Error for ids, targets and offsets that no op could use: ops do not look
 */
export function toDevice(
  batch: MicroBatch,
  { config, device }: Pick<Parameters, 'config' | 'device'>,
  ropeTables: RopeTables,
): DeviceBatch {
  check(batch, config.vocabSize);
  const { documentOffsets } = batch;
  const lengths = Array.from(documentOffsets.subarray(1), (end, j) => end - documentOffsets[j]);
  const host = wholeDocuments(lengths);
  const { cos, sin, index } = ropeTables.rowsOf(lengths);
  const rows: number[] = [];
  batch.targets.forEach((target, row) => {
    if (target !== IGNORE_INDEX) rows.push(row);
  });
  const [ids, angles, labelRows, targets, ...documents] = NativeTensor.stage(device, [
    batch.ids,
    index,
    Int32Array.from(rows),
    Int32Array.from(rows, (row) => batch.targets[row]),
    ...host.arrays,
  ]);
  return {
    tokens: batch.ids.length,
    ids,
    documents: documentsFrom(host, documents),
    angles: { cos, sin, index: angles },
    labelRows,
    targets,
    labels: rows.length,
  };
}

function check({ ids, targets, documentOffsets }: MicroBatch, vocabSize: number): void {
  const isWord = (id: number) => id >= 0 && id < vocabSize;
  const wrongId = ids.findIndex((id) => !isWord(id));
  if (wrongId >= 0)
    throw new Error(`ids[${wrongId}] is ${ids[wrongId]}, the vocabulary has the ids 0…${vocabSize - 1}`);
  const wrongTarget = targets.findIndex((target) => target !== IGNORE_INDEX && !isWord(target));
  if (wrongTarget >= 0)
    throw new Error(
      `targets[${wrongTarget}] is ${targets[wrongTarget]}, expected 0…${vocabSize - 1} or ${IGNORE_INDEX}`,
    );
  if (targets.length !== ids.length)
    throw new Error(`there are ${ids.length} ids, but ${targets.length} targets`);
  const backwards = documentOffsets.findIndex((end, j) => j > 0 && end < documentOffsets[j - 1]);
  if (documentOffsets[0] !== 0 || documentOffsets.at(-1) !== ids.length || backwards >= 0)
    throw new Error(`documentOffsets [${documentOffsets}] do not run from 0 to the ${ids.length} ids`);
}

/** All tensors of a batch. */
export function tensorsOf({ ids, documents, angles, labelRows, targets }: DeviceBatch): NativeTensor[] {
  return [ids, labelRows, targets, ...Object.values(angles), ...documentTensors(documents)];
}

export function disposeBatch(batch: DeviceBatch): void {
  release(...tensorsOf(batch));
}
