import { residentAllowance } from '../engine/plan/plan.js';
import { barOf, type Cell, cellName } from './cells.js';
import type { Limits, OwnReady, OwnRound, Ready, Round } from './protocol.js';
import { median, medianRatio } from './statistics.js';

export const PEERS = ['eager', 'compile'] as const;
export type PeerName = (typeof PEERS)[number];

/** What one side said, or why it said nothing. */
export type Side<R, Rd> = { ready: Rd; rounds: R[] } | { error: string };

/** All that was measured of one cell; rounds of the same index ran beside each other. */
export interface CellMeasurement {
  cell: Cell;
  /** The processor has no bf16 instructions: the figures say nothing about one that has. */
  emulated_bf16: boolean;
  counted: string;
  /** Of the steps of this cell, on average. */
  step: { documents: number; tokens: number; labels: number };
  steps_per_round: number;
  warmup_steps: number;
  ours: { ready: OwnReady; rounds: OwnRound[] };
  peers: Partial<Record<PeerName, Side<Round, Ready>>>;
  limits: Limits[];
}

/** What is read off a measurement. `null`: not measured, or no bar. */
export interface CellSummary {
  tok_s: { ours: number } & Record<PeerName, number | null>;
  /** Medians of the rounds' ratios, ours to theirs. */
  ratio: Record<PeerName, number | null>;
  bar: { text: string; met: boolean | null };
  /** The rate at which the matrix products of a step alone would run, and how much of it is reached. */
  gemm_bound_tok_s: number;
  gemm_bound_fraction: number;
  /** FLOPs of the step per second, as a fraction of what a large square product reaches. */
  model_flop_utilisation: number;
  copy_gb_s: number;
  memory: {
    peak_rss_mib: { ours: number } & Record<PeerName, number | null>;
    plan_mib: number;
    /** The arena's high-water mark is what the plan says, to the byte. */
    arena_equals_plan: boolean;
    /** Peak resident memory minus that before the model was there. */
    growth_mib: number;
    /** plan × 1.05 + 64 MiB. */
    allowed_mib: number;
    within_plan: boolean;
    below_eager: boolean | null;
  };
}

const MIB = 2 ** 20;

export function summarise(m: CellMeasurement): CellSummary {
  const rates = (rounds: readonly Round[]) => rounds.map((round) => round.tok_s);
  const ours = rates(m.ours.rounds);
  const ofPeers = <T>(value: (side: { ready: Ready; rounds: Round[] }) => T) =>
    Object.fromEntries(
      PEERS.map((name) => {
        const side = m.peers[name];
        return [name, side === undefined || 'error' in side ? null : value(side)];
      }),
    ) as Record<PeerName, T | null>;
  const ratio = ofPeers((side) => medianRatio(ours, rates(side.rounds)));
  const peak = (rounds: readonly Round[]) => Math.max(...rounds.map((round) => round.peak_rss_mib));
  const peaks = ofPeers((side) => peak(side.rounds));
  const bounds = m.limits.map((limit) => m.step.tokens / limit.gemm_seconds);
  const flopRates = m.ours.rounds.map((round) => (round.flops / round.tokens) * round.tok_s);
  const { plan, rss_before_mib } = m.ours.ready;
  const planned = plan.arena + plan.heap;
  const growth = peak(m.ours.rounds) - rss_before_mib;
  const allowed = residentAllowance(planned) / MIB;
  return {
    tok_s: { ours: median(ours), ...ofPeers((side) => median(rates(side.rounds))) },
    ratio,
    bar: judge(m, ratio),
    gemm_bound_tok_s: median(bounds),
    gemm_bound_fraction: medianRatio(ours, bounds),
    model_flop_utilisation: medianRatio(
      flopRates,
      m.limits.map((limit) => limit.peak_flops),
    ),
    copy_gb_s: median(m.limits.map((limit) => limit.copy_bytes_per_second)) / 1e9,
    memory: {
      peak_rss_mib: { ours: peak(m.ours.rounds), ...peaks },
      plan_mib: planned / MIB,
      arena_equals_plan: m.ours.rounds.at(-1)!.measured.arena === plan.arena,
      growth_mib: growth,
      allowed_mib: allowed,
      within_plan: growth <= allowed,
      below_eager: peaks.eager === null ? null : peak(m.ours.rounds) < peaks.eager,
    },
  };
}

function judge(m: CellMeasurement, ratio: Record<PeerName, number | null>): CellSummary['bar'] {
  const bar = barOf(m.cell);
  const against = bar.against === 'eager' ? 'eager' : 'the better of eager and compile';
  const text = `≥ ${bar.ratio} × ${against}`;
  const ratios = bar.against === 'eager' ? [ratio.eager] : [ratio.eager, ratio.compile];
  if (m.emulated_bf16) return { text: 'no bar, for bf16 is emulated on this processor', met: null };
  // One ratio below the bar decides, also where the other peer could not be measured.
  if (ratios.some((r) => r !== null && r < bar.ratio)) return { text, met: false };
  return { text, met: ratios.includes(null) ? null : true };
}

/**
 * What must hold for a comparison to be one: both sides have as many parameters and count as many tokens, and their
 * untrained models, which differ by the draw of their weights alone, lose about the same.
 */
export function differences(ours: { ready: Ready; rounds: Round[] }, peer: typeof ours): string[] {
  const found: string[] = [];
  const compare = (what: string, a: number, b: number, relative: number) => {
    if (!(Math.abs(a - b) <= relative * Math.abs(a))) found.push(`${what}: ${a} here, ${b} there`);
  };
  compare('parameters', ours.ready.parameters, peer.ready.parameters, 0);
  compare('threads', ours.ready.threads, peer.ready.threads, 0);
  // A few hundred labels under two draws of the weights differ by about 1 %.
  compare('first loss', ours.ready.first_loss, peer.ready.first_loss, 0.05);
  peer.rounds.forEach((round, i) => {
    compare(`tokens of round ${i + 1}`, ours.rounds[i].tokens, round.tokens, 0);
  });
  return found;
}

/** The table for people. */
export function table(measurements: readonly CellMeasurement[]): string {
  const header = [
    ['cell', 'ours', 'eager', 'compile', '× eager', '× compile'],
    ['bar', 'GEMM bound', 'of it', 'MFU', 'MiB ours', 'MiB eager'],
  ].flat();
  const rows = measurements.map((m) => {
    const s = summarise(m);
    const whole = (value: number | null) => (value === null ? '–' : value.toFixed(0));
    const times = (value: number | null) => (value === null ? '–' : value.toFixed(2));
    const percent = (value: number) => `${(100 * value).toFixed(0)} %`;
    return [
      cellName(m.cell) + (m.emulated_bf16 ? ' (emulated)' : ''),
      whole(s.tok_s.ours),
      whole(s.tok_s.eager),
      whole(s.tok_s.compile),
      times(s.ratio.eager),
      times(s.ratio.compile),
      m.emulated_bf16 ? 'none' : s.bar.met === null ? '–' : s.bar.met ? 'met' : 'not met',
      whole(s.gemm_bound_tok_s),
      percent(s.gemm_bound_fraction),
      percent(s.model_flop_utilisation),
      whole(s.memory.peak_rss_mib.ours),
      whole(s.memory.peak_rss_mib.eager),
    ];
  });
  const widths = header.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i].length)));
  return [header, ...rows]
    .map((row) =>
      row.map((text, i) => (i === 0 ? text.padEnd(widths[i]) : text.padStart(widths[i]))).join('  '),
    )
    .join('\n');
}

/** One line a bar: what was asked for, what came out. */
export function bars(measurements: readonly CellMeasurement[]): string {
  const word = (met: boolean | null) => (met === null ? 'not measured' : met ? 'met' : 'NOT MET');
  const mib = (value: number) => `${value.toFixed(0)} MiB`;
  return measurements
    .flatMap((m) => {
      const { bar, memory } = summarise(m);
      const name = cellName(m.cell);
      const lines = [
        m.emulated_bf16 ? `${name}  speed: ${bar.text}` : `${name}  speed ${bar.text}: ${word(bar.met)}`,
        `${name}  memory: arena = plan: ${word(memory.arena_equals_plan)}; growth ${mib(memory.growth_mib)} ≤ ` +
          `${mib(memory.allowed_mib)} (plan ${mib(memory.plan_mib)} × 1.05 + 64): ${word(memory.within_plan)}`,
      ];
      if (m.cell.shape === '110m' && m.cell.precision === 'bf16')
        lines.push(`${name}  peak below eager's: ${word(memory.below_eager)}`);
      for (const [peer, side] of Object.entries(m.peers))
        if ('error' in side) lines.push(`${name}  ${peer} was not measured: ${side.error}`);
      return lines;
    })
    .join('\n');
}
