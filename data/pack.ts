import { type DataOrder, epochOrder } from './order.js';

// More open bins fill better and mix documents that lie further apart in the order. 256 bins fill 99.9 % of the rows
// of 512 of the Alpaca set, and no epoch leaves more than these 256 partly empty.
const OPEN_BINS = 256;

/**
 * Fills rows of `capacity` tokens with whole documents, taken in the given order: each goes into the open row with
 * the least room that still holds it (best fit), or opens a new one; with more than OPEN_BINS open, the fullest is
 * closed. Rows come in the order they were opened, so a shuffled order stays shuffled.
 *
 * @param lengths tokens of every document, each ≤ capacity
 * @param order indices into `lengths`
 * @returns the documents of each row
 */
export function packRows(lengths: Int32Array, order: Int32Array, capacity: number): Int32Array[] {
  const rows: number[][] = [];
  const open: { room: number; documents: number[] }[] = [];
  for (const index of order) {
    const length = lengths[index];
    if (length > capacity)
      throw new RangeError(`example ${index} has ${length} tokens; a packed row holds ${capacity}.`);
    let best = -1;
    for (let i = 0; i < open.length; i++)
      if (open[i].room >= length && (best < 0 || open[i].room < open[best].room)) best = i;
    if (best < 0) {
      const documents = [index];
      rows.push(documents);
      open.push({ room: capacity - length, documents });
      if (open.length > OPEN_BINS) open.splice(fullest(open), 1);
    } else {
      open[best].documents.push(index);
      open[best].room -= length;
      if (open[best].room === 0) open.splice(best, 1);
    }
  }
  return rows.map((documents) => Int32Array.from(documents));
}

function fullest(open: { room: number }[]): number {
  let best = 0;
  for (let i = 1; i < open.length; i++) if (open[i].room < open[best].room) best = i;
  return best;
}

/** How rows become micro-batches and steps, in the words of HF TrainingArguments. */
export interface ScheduleOptions {
  /** Examples in a micro-batch; with `packing`, rows of `modelMaxLength` filled with whole examples. */
  perDeviceTrainBatchSize: number;
  gradientAccumulationSteps: number;
  packing: boolean;
  modelMaxLength: number;
  dataOrder: DataOrder;
  seed: number;
}

/** One epoch: micro-batches as indices of examples, and the steps they make. */
export interface EpochSchedule {
  microBatches: Int32Array[];
  /** A step takes gradientAccumulationSteps micro-batches; what is left at the end takes one step more. */
  steps: number;
  /** Rows of `modelMaxLength` taken when packing, else the number of examples. */
  rows: number;
}

/**
 * The micro-batches of epoch `epoch` (from 0): a function of the lengths, seed and epoch alone.
 * The last micro-batch may be smaller than the rest.
 */
export function epochSchedule(
  lengths: Int32Array,
  options: ScheduleOptions & { epoch: number },
): EpochSchedule {
  const size = options.perDeviceTrainBatchSize;
  const order = epochOrder(lengths.length, options);
  const microBatches: Int32Array[] = [];
  let rows = order.length;
  if (options.packing) {
    const packed = packRows(lengths, order, options.modelMaxLength);
    rows = packed.length;
    for (let i = 0; i < rows; i += size)
      microBatches.push(Int32Array.from(packed.slice(i, i + size).flatMap((row) => [...row])));
  } else {
    for (let i = 0; i < rows; i += size) microBatches.push(order.subarray(i, i + size));
  }
  return { microBatches, steps: Math.ceil(microBatches.length / options.gradientAccumulationSteps), rows };
}
