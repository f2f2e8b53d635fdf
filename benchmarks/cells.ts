import type { Precision } from '../engine/model/parameters.js';
import { UserError } from '../errors.js';
import { SHAPES, type ShapeName } from './shapes.js';

export type WorkloadName = 'fixed' | 'alpaca';

/** One row of the benchmark: a model, a precision, and the work. */
export interface Cell {
  shape: ShapeName;
  precision: Precision;
  workload: WorkloadName;
}

const shapes = Object.keys(SHAPES) as ShapeName[];
const precisions: readonly Precision[] = ['fp32', 'bf16'];
const workloads: readonly WorkloadName[] = ['fixed', 'alpaca'];

export const ALL_CELLS: readonly Cell[] = workloads.flatMap((workload) =>
  shapes.flatMap((shape) => precisions.map((precision) => ({ shape, precision, workload }))),
);

export function cellName({ shape, precision, workload }: Cell): string {
  return `${shape}/${precision}/${workload}`;
}

/**
 * Cells from `15m/fp32/fixed,110m/bf16/alpaca`; `*` stands for every value of its place.
 *
 * @throws UserError naming the part that is none of the known words
 */
export function parseCells(text: string): Cell[] {
  const chosen = text.split(',').flatMap((word) => {
    const parts = word.trim().split('/');
    if (parts.length !== 3)
      throw new UserError(`--cells: expected shape/precision/workload, got "${word.trim()}"`);
    const [inShape, inPrecision, inWorkload] = [shapes, precisions, workloads].map((known, i) => {
      if (parts[i] !== '*' && !(known as readonly string[]).includes(parts[i]))
        throw new UserError(`--cells: "${parts[i]}" in "${word.trim()}" is none of ${known.join(', ')}, *`);
      return (value: string) => parts[i] === '*' || parts[i] === value;
    });
    return ALL_CELLS.filter((c) => inShape(c.shape) && inPrecision(c.precision) && inWorkload(c.workload));
  });
  return [...new Set(chosen)];
}

/** Steps of one round: long enough that a round is seconds, short enough that rounds lie close together. */
export function stepsPerRound({ shape, workload }: Cell): number {
  const steps = { '260k': [32, 64], '15m': [4, 8], '110m': [2, 4] }[shape];
  return workload === 'fixed' ? steps[0] : steps[1];
}

/** What the ratio to PyTorch has to reach, and against whom it counts. */
export interface Bar {
  against: 'better' | 'eager';
  ratio: number;
}

/** Random ids: at least the better of eager and torch.compile. Real rows: a multiple of eager. */
export function barOf({ shape, precision, workload }: Cell): Bar {
  if (workload === 'fixed') return { against: 'better', ratio: 1 };
  return { against: 'eager', ratio: shape === '110m' && precision === 'fp32' ? 1.9 : 2.5 };
}
