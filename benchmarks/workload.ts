import { join } from 'node:path';
import { IGNORE_INDEX } from '../batch.js';
import { philox } from '../data/philox.js';
import { readRows } from '../data/sources.js';
import type { FloatType } from '../engine/device/native_tensor.js';
import { UserError } from '../errors.js';
import type { Cell, WorkloadName } from './cells.js';
import { root } from './paths.js';
import { SHAPES } from './shapes.js';

/** A document; labels are not shifted, −100 = none. */
export interface Document {
  ids: number[];
  labels: number[];
}

/** All that the two sides of a comparison have in common; both read it from one file. */
export interface Workload {
  /** config.json keys. */
  config: Record<string, unknown>;
  /** The documents of each step, taken in turn and again from the first one. */
  steps: Document[][];
  /** A step's documents are taken so many at a time, and their gradients added up. */
  documentsPerBatch: number;
  /** What our side keeps gradients and moments in. */
  states: FloatType;
  /** Steps before the first timed one. */
  warmupSteps: number;
  stepsPerRound: number;
  optimizer: {
    learning_rate: number;
    adam_beta1: number;
    adam_beta2: number;
    adam_epsilon: number;
    weight_decay: number;
    max_grad_norm: number;
  };
}

const DOCUMENTS = 4;
const LENGTH = 512;
/** torch.compile compiles the first length for itself and the second for all lengths. */
const WARMUP_STEPS = 3;

/** Real rows, already tokenised by the LLaMA tokenizer; they lie beside the project, never in it. */
export const ALPACA_ROWS = join(root, '../shared/goldens/alpaca/rows_512.jsonl');

/** What a step is and which tokens count, for the stored result. */
export const COUNTED: Record<WorkloadName, string> = {
  fixed: `${DOCUMENTS} documents of ${LENGTH} random ids a step, every id a label; all ids count`,
  alpaca:
    `${DOCUMENTS} real rows a step, labels on the response; the peer pads to the longest row of the step, ` +
    'as a data collator does; ids of the rows count, padding does not',
};

/**
 * The work of a cell for so many rounds of so many steps: forward, backward, clipping and AdamW on each step's documents.
 *
 * @throws UserError when the rows of `alpaca` are not there
 */
export async function makeWorkload(
  cell: Cell,
  rounds: number,
  perRound: number,
  rowsFile = ALPACA_ROWS,
): Promise<Workload> {
  const config = SHAPES[cell.shape];
  const steps =
    cell.workload === 'fixed'
      ? fixedSteps(config.vocab_size)
      : await alpacaSteps(rowsFile, config.vocab_size, WARMUP_STEPS + rounds * perRound);
  return {
    config,
    steps,
    documentsPerBatch: DOCUMENTS,
    states: 'float32',
    warmupSteps: WARMUP_STEPS,
    stepsPerRound: perRound,
    optimizer: OPTIMIZER,
  };
}

export const OPTIMIZER: Workload['optimizer'] = {
  learning_rate: 2e-5,
  adam_beta1: 0.9,
  adam_beta2: 0.999,
  adam_epsilon: 1e-8,
  weight_decay: 0,
  max_grad_norm: 1,
};

/** The documents of each micro-batch of a step. */
export function batchesOf(
  documents: readonly Document[],
  { documentsPerBatch: size }: Workload,
): Document[][] {
  return Array.from({ length: Math.ceil(documents.length / size) }, (_, i) =>
    documents.slice(i * size, (i + 1) * size),
  );
}

/** Tokens of a step, and positions that predict a label, on average. */
export function meanSizes(steps: readonly Document[][]): { tokens: number; labels: number } {
  const documents = steps.flat();
  const labelled = (d: Document) => d.labels.slice(1).filter((label) => label !== IGNORE_INDEX).length;
  return {
    tokens: documents.reduce((sum, d) => sum + d.ids.length, 0) / steps.length,
    labels: documents.reduce((sum, d) => sum + labelled(d), 0) / steps.length,
  };
}

function fixedSteps(vocab: number): Document[][] {
  const distinct = 8;
  return Array.from({ length: distinct }, (_, step) =>
    Array.from({ length: DOCUMENTS }, (_, document) => {
      const ids = randomIds(step, document, LENGTH, vocab);
      return { ids, labels: ids };
    }),
  );
}

/** Ids 0, 1 and 2 are special tokens, which no text has in its middle. */
export function randomIds(step: number, document: number, length: number, vocab: number): number[] {
  return Array.from(
    { length },
    (_, position) => 3 + (philox([step, document, position, 0], [1, 0])[0] % (vocab - 3)),
  );
}

/** Rows in file order, `DOCUMENTS` a step, up to `most` steps; a small vocabulary takes the ids modulo its size. */
async function alpacaSteps(path: string, vocab: number, most: number): Promise<Document[][]> {
  const documents: Document[] = [];
  for await (const batch of readRows(path)) {
    if (batch.form !== 'tokens') throw new UserError(`${path}: expected pre-tokenised rows, found text`);
    for (const { ids, labels } of batch.rows)
      documents.push({
        ids: Array.from(ids, (id) => id % vocab),
        labels: Array.from(labels, (label) => (label === IGNORE_INDEX ? label : label % vocab)),
      });
  }
  const steps = Math.min(most, Math.floor(documents.length / DOCUMENTS));
  if (steps === 0) throw new UserError(`${path}: a step takes ${DOCUMENTS} rows, the file has fewer`);
  return Array.from({ length: steps }, (_, i) => documents.slice(i * DOCUMENTS, (i + 1) * DOCUMENTS));
}
