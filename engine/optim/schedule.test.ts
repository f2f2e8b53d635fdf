import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { learningRateAt, type ScheduleType, warmupStepsOf } from './schedule.js';

// Reference values: transformers' get_scheduler, and DeepSpeed's WarmupLR by its definition; both in double
// arithmetic, where the order of a few operations is all that may differ.
const RELATIVE = 1e-12;

const fixtures = join(import.meta.dirname, '../../tests/fixtures/optim');

function expectRates(actual: number[], expected: number[]): void {
  expect(actual.length).toBe(expected.length);
  actual.forEach((rate, step) => {
    expect(Math.abs(rate - expected[step]), `step ${step}: ${rate}`).toBeLessThanOrEqual(
      RELATIVE * Math.abs(expected[step]),
    );
  });
}

interface Sequence {
  kind: ScheduleType;
  base_lr: number;
  total_steps: number;
  warmup_ratio: number | null;
  warmup_steps: number;
  lr: number[];
}

const sequences: Sequence[] = readFileSync(join(fixtures, 'schedules.jsonl'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line));

describe('schedules equal the reference', () => {
  it.each(sequences)(
    '$kind, $total_steps steps, warm-up $warmup_steps ($warmup_ratio)',
    ({ kind, base_lr, total_steps, warmup_ratio, warmup_steps, lr }) => {
      expect(warmupStepsOf(total_steps, warmup_ratio ?? 0, warmup_ratio === null ? warmup_steps : 0)).toBe(
        warmup_steps,
      );
      const schedule = {
        type: kind,
        learningRate: base_lr,
        warmupSteps: warmup_steps,
        totalSteps: total_steps,
      };
      expectRates(
        lr.map((_, step) => learningRateAt(schedule, step)),
        lr,
      );
    },
  );

  it('covers constant, constant_with_warmup, linear and cosine', () => {
    expect(new Set(sequences.map((s) => s.kind))).toEqual(
      new Set(['constant', 'constant_with_warmup', 'linear', 'cosine']),
    );
  });
});

interface WarmupLr {
  warmup_type: string;
  warmup_num_steps: number;
  warmup_min_lr: number;
  warmup_max_lr: number;
  lr: number[];
}

const warmupLr = (
  JSON.parse(readFileSync(join(fixtures, 'deepspeed_warmuplr.json'), 'utf8')) as WarmupLr[]
).filter((s) => s.warmup_type === 'log' && s.warmup_min_lr === 0);

describe('warmup_lr equals WarmupLR with its defaults (logarithmic, from 0)', () => {
  it.each(warmupLr)('warm-up $warmup_num_steps', ({ warmup_num_steps, warmup_max_lr, lr }) => {
    const schedule = {
      type: 'warmup_lr' as const,
      learningRate: warmup_max_lr,
      warmupSteps: warmup_num_steps,
      totalSteps: lr.length,
    };
    expectRates(
      lr.map((_, step) => learningRateAt(schedule, step)),
      lr,
    );
  });
});

it('warm-up steps win over the ratio; the ratio is rounded up', () => {
  expect(warmupStepsOf(100, 0.03, 7)).toBe(7);
  expect(warmupStepsOf(101, 0.03, 0)).toBe(4);
  expect(warmupStepsOf(100, 0, 0)).toBe(0);
});
