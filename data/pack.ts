import { type DataOrder, epochOrder } from './order.js';

// A larger window fills better (4,096 fills 0.2 % more of rows of 512) and lets the order decide less about which
// documents share a row.
const WINDOW = 1024;

/**
 * Fills rows of `capacity` tokens with whole documents: best fit decreasing over windows of 1,024 documents of the
 * given order, that is, of a window's documents the longest goes first, each into the row with the least room that
 * still holds it. A window's rows, and the documents in a row, come in the order of their first document, so a
 * shuffled order stays shuffled beyond a window. On the 52,000 Alpaca rows this fills 98.4 % of rows of 512.
 *
 * @param lengths tokens of every document, each ≤ capacity
 * @param order indices into `lengths`
 * @returns the documents of each row
 */
export function packRows(lengths: Int32Array, order: Int32Array, capacity: number): number[][] {
  const rows: number[][] = [];
  for (let start = 0; start < order.length; start += WINDOW) {
    const window = order.subarray(start, start + WINDOW);
    const windowLengths = window.map((index) => lengths[index]);
    for (const row of packWindow(windowLengths, capacity)) rows.push(row.map((place) => window[place]));
  }
  return rows;
}

/** Rows of places in `lengths`, each row ascending, rows by their first place. */
function packWindow(lengths: Int32Array, capacity: number): number[][] {
  const places = lengths.map((_, place) => place).sort((a, b) => lengths[b] - lengths[a]);
  const shortest = lengths[places[places.length - 1]];
  if (lengths[places[0]] > capacity)
    throw new RangeError(
      `a document of ${lengths[places[0]]} tokens does not fit a packed row of ${capacity}.`,
    );
  const rows: number[][] = [];
  // By room, the least first.
  const open: { room: number; row: number[] }[] = [];
  for (const place of places) {
    let [bin] = open.splice(firstWithRoom(open, lengths[place]), 1);
    if (bin === undefined) {
      bin = { room: capacity, row: [] };
      rows.push(bin.row);
    }
    bin.row.push(place);
    bin.room -= lengths[place];
    if (bin.room >= shortest) open.splice(firstWithRoom(open, bin.room), 0, bin);
  }
  for (const row of rows) row.sort((a, b) => a - b);
  return rows.sort((a, b) => a[0] - b[0]);
}

function firstWithRoom(open: { room: number }[], room: number): number {
  let low = 0;
  let high = open.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (open[middle].room < room) low = middle + 1;
    else high = middle;
  }
  return low;
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
  let rows = order.length;
  let microBatches: Int32Array[];
  if (options.packing) {
    const packed = packRows(lengths, order, options.modelMaxLength);
    rows = packed.length;
    microBatches = slices(packed, size).map((some) => new Int32Array(some.flat()));
  } else {
    microBatches = slices(order, size);
  }
  return { microBatches, steps: Math.ceil(microBatches.length / options.gradientAccumulationSteps), rows };
}

/** The micro-batches of an evaluation of `examples` examples: all of them once, in file order. */
export function evaluationMicroBatches(examples: number, size: number): Int32Array[] {
  return slices(
    Int32Array.from({ length: examples }, (_, i) => i),
    size,
  );
}

/** Runs of `size`; the last may be shorter. */
function slices<T extends { length: number; slice(start: number, end: number): T }>(
  all: T,
  size: number,
): T[] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, i) => all.slice(i * size, (i + 1) * size));
}
