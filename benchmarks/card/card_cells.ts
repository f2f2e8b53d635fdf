import { IGNORE_INDEX } from '../../batch.js';
import { type LlamaConfig, parseLlamaConfig } from '../../engine/model/config.js';
import { LARGE_SHAPES, SHAPES } from '../shapes.js';
import { type Document, OPTIMIZER, randomIds, type Workload } from '../workload.js';
import { ALPACA_LENGTHS } from './alpaca_lengths.js';

/** A row of the benchmark on a card: a model in bf16, and rows all of whose tokens count, or of real lengths. */
export interface CardCell {
  shape: '1.1b' | '7b' | '260k';
  rows: 'full' | 'alpaca';
}

/** In the order of what they tell: a part of them may be all that there is time for. */
export const CARD_CELLS: readonly CardCell[] = [
  { shape: '1.1b', rows: 'full' },
  { shape: '1.1b', rows: 'alpaca' },
  { shape: '7b', rows: 'full' },
  { shape: '7b', rows: 'alpaca' },
];

/** For the simulated card, which computes on the processor. */
export const TINY_CELLS: readonly CardCell[] = [{ shape: '260k', rows: 'alpaca' }];

export function cardCellName({ shape, rows }: CardCell): string {
  return `${shape}/bf16/${rows}`;
}

/** What has to be reached, from issue to card: MFU and tokens/s are of one H100. */
export interface CardBars {
  tokensPerSecond?: number;
  mfu?: number;
  gemmBoundFraction?: number;
  /** Times the best of the peers. */
  ratio?: number;
}

export function barsOf({ shape, rows }: CardCell): CardBars {
  if (shape === '7b') return rows === 'full' ? { mfu: 0.6, gemmBoundFraction: 0.82 } : {};
  if (shape === '1.1b')
    return rows === 'full' ? { tokensPerSecond: 81_000, gemmBoundFraction: 0.7, ratio: 1.3 } : { ratio: 2 };
  return {};
}

interface Sizes {
  documentsPerBatch: number;
  batches: number;
  length: number;
}

/** 64 rows a step in micro-batches of 8, as in the recipe. */
const SIZES: Sizes = { documentsPerBatch: 8, batches: 8, length: 512 };
const TINY_SIZES: Sizes = { documentsPerBatch: 2, batches: 2, length: 24 };

/** As many steps as the real rows make; as many warm up, so that each shape of them has been seen. */
const STEPS = 5;

/** The work of a cell. Ids are random, which a card does not notice; lengths and labels are those of the rows. */
export function cardWorkload(cell: CardCell, stepsPerRound: number): Workload {
  const config = { ...SHAPES, ...LARGE_SHAPES }[cell.shape];
  const { documentsPerBatch, batches, length } = cell.shape === '260k' ? TINY_SIZES : SIZES;
  const perStep = documentsPerBatch * batches;
  const document = (step: number, i: number): Document => {
    if (cell.rows === 'full') {
      const ids = randomIds(step, i, length, config.vocab_size);
      return { ids, labels: ids };
    }
    const [prompt, answer] = ALPACA_LENGTHS[(step * perStep + i) % ALPACA_LENGTHS.length];
    const ids = randomIds(step, i, Math.min(prompt + answer, length), config.vocab_size);
    return { ids, labels: ids.map((id, at) => (at < Math.min(prompt, length - 1) ? IGNORE_INDEX : id)) };
  };
  return {
    config,
    steps: Array.from({ length: STEPS }, (_, step) =>
      Array.from({ length: perStep }, (_, i) => document(step, i)),
    ),
    documentsPerBatch,
    // What puts 7B on 80 GB: 10 bytes a parameter.
    states: cell.shape === '7b' ? 'bfloat16' : 'float32',
    warmupSteps: cell.shape === '260k' ? 1 : STEPS,
    stepsPerRound,
    optimizer: OPTIMIZER,
  };
}

/** The model of a cell, and the length of its rows that attention sees: the mean over tokens. */
export function modelOfCell(workload: Workload): { config: LlamaConfig; length: number } {
  const lengths = workload.steps.flat().map(({ ids }) => ids.length);
  const sum = (of: (n: number) => number) => lengths.reduce((all, n) => all + of(n), 0);
  return { config: parseLlamaConfig(workload.config, 'workload'), length: sum((n) => n * n) / sum((n) => n) };
}
