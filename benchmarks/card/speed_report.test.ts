import { describe, expect, it } from 'vitest';
import type { OwnReady, OwnRound, Round } from '../protocol.js';
import { type CardMeasurement, cardTable, summariseCard } from './speed_report.js';

const round = (tok_s: number, device_mib = 30_000): Round => ({
  tokens: 1000,
  tok_s,
  median_step_ms: 1,
  peak_rss_mib: 1000,
  device_mib,
  loss: 10,
});
const own = (tok_s: number): OwnRound => ({
  ...round(tok_s, 20_000),
  flops: 1,
  measured: { arena: 5, heap: 7 },
});

function measurement(changes: Partial<CardMeasurement> = {}): CardMeasurement {
  const ready = { parameters: 1, first_loss: 10, threads: 2, versions: {} };
  const ownReady = { ...ready, plan: { arena: 5, heap: 6 } } as OwnReady;
  return {
    cell: { shape: '1.1b', rows: 'full' },
    step: { tokens: 1000, labels: 900, length: 512 },
    flops_per_token: 6e9,
    ours: { ready: ownReady, rounds: [own(80_000), own(90_000), own(82_000)] },
    limits: { gemm_seconds: 0.009, peak_flops: 1, copy_bytes_per_second: 1 },
    peers: {
      eager: { ready, rounds: [round(30_000), round(40_000), round(35_000)] },
      compile: { ready, rounds: [round(50_000)] },
      liger: { error: 'exit status 1: no module' },
    },
    ...changes,
  };
}

describe('a cell of a card', () => {
  it('is held against the peak, its own products and the best peer', () => {
    expect(summariseCard(measurement(), 989.4e12)).toEqual({
      tok_s: 82_000,
      mfu: (82_000 * 6e9) / 989.4e12,
      gemm_bound_fraction: (82_000 * 0.009) / 1000,
      peers: { eager: 35_000, compile: 50_000, liger: null },
      ratio: 82_000 / 50_000,
      device_mib: { ours: 20_000, eager: 30_000, compile: 30_000, liger: null },
      arena_equals_plan: true,
    });
  });

  it('says which bars it meets, and what was left out and why', () => {
    const text = cardTable([measurement()], 989.4e12);
    expect(text).toContain('1.1b/bf16/full  tokens/s (of one H100) ≥ 81000: met');
    expect(text).toContain('1.1b/bf16/full  part of the GEMM bound ≥ 0.7: met');
    expect(text).toContain('1.1b/bf16/full  times the best peer ≥ 1.3: met');
    expect(text).toContain('1.1b/bf16/full  arena = plan: met');
    expect(text).toContain('1.1b/bf16/full  liger was not measured: exit status 1: no module');
    const alpaca = measurement({ cell: { shape: '1.1b', rows: 'alpaca' } });
    expect(cardTable([alpaca], undefined)).toContain('times the best peer ≥ 2: NOT MET');
  });

  it('of which nothing could be measured has no figures', () => {
    const cell = { shape: '7b', rows: 'full' } as const;
    const none = measurement({ cell, ours: { error: 'its plan takes 126.6 GiB' }, limits: null, peers: {} });
    expect(summariseCard(none, 989.4e12)).toMatchObject({ tok_s: null, mfu: null, ratio: null });
    const text = cardTable([none], 989.4e12);
    expect(text).toContain('7b/bf16/full  MFU ≥ 60 %: not measured');
    expect(text).toContain('7b/bf16/full  was not measured: its plan takes 126.6 GiB');
  });
});
