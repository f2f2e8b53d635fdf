import { describe, expect, it } from 'vitest';
import { parseCells } from './cells.js';
import type { OwnRound, Ready, Round } from './protocol.js';
import { bars, type CellMeasurement, differences, type Side, summarise, table } from './report.js';

const MIB = 2 ** 20;
const ready: Ready = { parameters: 100, first_loss: 10, threads: 2, versions: {} };

function round(tok_s: number, peak_rss_mib = 1000): Round {
  return { tokens: 2048, tok_s, median_step_ms: 1, peak_rss_mib, device_mib: null, loss: 10 };
}

function ownRound(tok_s: number): OwnRound {
  return { ...round(tok_s, 400), flops: 2048 * 50, measured: { arena: 100 * MIB, heap: 200 * MIB } };
}

const peer = (...rates: number[]): Side<Round, Ready> => ({ ready, rounds: rates.map((r) => round(r)) });

function measurement(cell: string, changes: Partial<CellMeasurement> = {}): CellMeasurement {
  return {
    cell: parseCells(cell)[0],
    emulated_bf16: false,
    counted: '',
    step: { documents: 4, tokens: 2048, labels: 2044 },
    steps_per_round: 1,
    warmup_steps: 3,
    ours: {
      ready: {
        ...ready,
        instruction_set: 'avx2',
        bf16_gemm: 'float32',
        rss_before_mib: 60,
        plan: { arena: 100 * MIB, heap: 200 * MIB },
      },
      rounds: [100, 200, 300].map(ownRound),
    },
    peers: { eager: peer(50, 50, 200), compile: peer(100, 250, 200) },
    limits: [1, 2, 4].map((gemm_seconds) => ({
      gemm_seconds,
      peak_flops: 20_000,
      copy_bytes_per_second: 9e9,
    })),
    ...changes,
  };
}

describe('summarise', () => {
  it('takes medians of rounds, and of the ratios within rounds', () => {
    const s = summarise(measurement('15m/fp32/fixed'));
    expect(s.tok_s).toEqual({ ours: 200, eager: 50, compile: 200 });
    expect(s.ratio).toEqual({ eager: 2, compile: 1 });
  });

  it('sets the rate beside that of the matrix products alone, round by round', () => {
    const s = summarise(measurement('15m/fp32/fixed'));
    // 2,048, 1,024 and 512 tokens a second at the bound.
    expect(s.gemm_bound_tok_s).toBe(1024);
    expect(s.gemm_bound_fraction).toBe(200 / 1024);
    // 50 FLOPs a token, 200 tokens a second, of 20,000 FLOPs a second.
    expect(s.model_flop_utilisation).toBe(0.5);
    expect(s.copy_gb_s).toBe(9);
  });

  it('compares memory with the plan and with the peer', () => {
    const { memory } = summarise(measurement('15m/fp32/fixed'));
    expect(memory.peak_rss_mib).toEqual({ ours: 400, eager: 1000, compile: 1000 });
    expect(memory).toMatchObject({ plan_mib: 300, growth_mib: 340, allowed_mib: 379 });
    expect(memory).toMatchObject({ arena_equals_plan: true, within_plan: true, below_eager: true });
  });

  it('sees an arena that is not as planned, and growth beyond what is allowed', () => {
    const m = measurement('15m/fp32/fixed');
    m.ours.ready.plan = { arena: 100 * MIB + 256, heap: 100 * MIB };
    const { memory } = summarise(m);
    expect(memory).toMatchObject({ arena_equals_plan: false, within_plan: false });
  });
});

describe('the bar', () => {
  const met = (cell: string, peers: CellMeasurement['peers']) =>
    summarise(measurement(cell, { peers })).bar.met;

  it('counts against the better peer on random ids', () => {
    expect(met('15m/fp32/fixed', { eager: peer(50, 50, 50), compile: peer(100, 200, 300) })).toBe(true);
    expect(met('15m/fp32/fixed', { eager: peer(50, 50, 50), compile: peer(101, 201, 301) })).toBe(false);
    expect(met('15m/fp32/fixed', { eager: peer(101, 201, 301), compile: peer(1, 1, 1) })).toBe(false);
  });

  it('counts against eager on real rows', () => {
    const compile = peer(1e6, 1e6, 1e6);
    expect(met('15m/fp32/alpaca', { eager: peer(40, 80, 120), compile })).toBe(true);
    expect(met('15m/fp32/alpaca', { eager: peer(50, 100, 150), compile })).toBe(false);
    expect(met('110m/fp32/alpaca', { eager: peer(50, 100, 150), compile })).toBe(true);
  });

  it('stays open where a peer that could decide it is missing', () => {
    const failed = { error: 'no compiler' };
    expect(met('15m/fp32/fixed', { eager: peer(50, 50, 50), compile: failed })).toBe(null);
    expect(met('15m/fp32/fixed', { eager: peer(500, 500, 500), compile: failed })).toBe(false);
    expect(met('15m/fp32/alpaca', { eager: peer(40, 80, 120), compile: failed })).toBe(true);
    expect(met('15m/fp32/fixed', {})).toBe(null);
  });

  it('is none where bf16 is emulated', () => {
    const emulated = measurement('15m/bf16/fixed', { emulated_bf16: true });
    expect(summarise(emulated).bar.met).toBe(null);
    expect(bars([emulated])).toContain(
      '15m/bf16/fixed  speed: no bar, for bf16 is emulated on this processor\n',
    );
  });
});

it('finds what makes two sides incomparable', () => {
  const side = { ready, rounds: [round(1)] };
  expect(differences(side, { ready: { ...ready, first_loss: 10.4 }, rounds: [round(9)] })).toEqual([]);
  expect(
    differences(side, {
      ready: { ...ready, parameters: 101, first_loss: Number.NaN },
      rounds: [{ ...round(1), tokens: 2000 }],
    }),
  ).toEqual([
    'parameters: 100 here, 101 there',
    'first loss: 10 here, NaN there',
    'tokens of round 1: 2048 here, 2000 there',
  ]);
});

it('prints a row a cell and a line a bar', () => {
  const measured = [
    measurement('15m/fp32/fixed'),
    measurement('110m/bf16/alpaca', { peers: { eager: peer(50, 100, 150), compile: { error: 'no g++' } } }),
  ];
  const [header, first, second] = table(measured).split('\n');
  expect(header).toMatch(/^cell +ours +eager +compile +× eager +× compile +bar/);
  expect(first).toMatch(/^15m\/fp32\/fixed +200 +50 +200 +2\.00 +1\.00 +met +1024 +20 % +50 % +400 +1000$/);
  expect(second).toMatch(/^110m\/bf16\/alpaca +200 +100 +– +2\.00 +– +not met/);
  expect(new Set([header, first, second].map((line) => line.length)).size).toBe(1);
  expect(bars(measured).split('\n')).toEqual([
    '15m/fp32/fixed  speed ≥ 1 × the better of eager and compile: met',
    '15m/fp32/fixed  memory: arena = plan: met; growth 340 MiB ≤ 379 MiB (plan 300 MiB × 1.05 + 64): met',
    '110m/bf16/alpaca  speed ≥ 2.5 × eager: NOT MET',
    '110m/bf16/alpaca  memory: arena = plan: met; growth 340 MiB ≤ 379 MiB (plan 300 MiB × 1.05 + 64): met',
    "110m/bf16/alpaca  peak below eager's: met",
    '110m/bf16/alpaca  compile was not measured: no g++',
  ]);
});
