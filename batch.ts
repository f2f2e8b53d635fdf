/**
 * What data/ makes of rows and engine/ takes in. Here, because neither of the two imports the other.
 */

/** The target of a position that no loss is taken on, as in PyTorch; cross_entropy of engine/native has it too. */
export const IGNORE_INDEX = -100;

/** Documents end to end, without padding. */
export interface MicroBatch {
  /** The documents end to end [tokens]. */
  ids: Int32Array;
  /** The label each position predicts, already shifted within its document; IGNORE_INDEX = none [tokens]. */
  targets: Int32Array;
  /** Starts of the documents, and the total [documents + 1]. */
  documentOffsets: Int32Array;
}

/** A micro-batch to train on: also which rows it holds, for messages, and how many labels. */
export interface TrainingBatch extends MicroBatch {
  /** Row numbers in the data file [documents]. */
  rows: Int32Array;
  /** Targets that are not IGNORE_INDEX. */
  labelTokens: number;
}
