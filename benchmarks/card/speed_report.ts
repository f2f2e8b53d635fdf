import type { Limits, OwnReady, OwnRound, Ready, Round } from '../protocol.js';
import type { Side } from '../report.js';
import { median } from '../statistics.js';
import { barsOf, type CardCell, cardCellName } from './card_cells.js';

export const CARD_PEERS = ['eager', 'compile', 'liger'] as const;
export type CardPeer = (typeof CARD_PEERS)[number];

/** All that was measured of a cell. Each side has the card for itself, one after the other. */
export interface CardMeasurement {
  cell: CardCell;
  /** Tokens and labelled positions of a step, and the length of a row that attention sees, on average. */
  step: { tokens: number; labels: number; length: number };
  /** FLOPs of a token, as MFU counts them. */
  flops_per_token: number;
  ours: Side<OwnRound, OwnReady>;
  limits: Limits | null;
  peers: Partial<Record<CardPeer, Side<Round, Ready>>>;
}

export interface CardSummary {
  tok_s: number | null;
  /** tokens/s · (6 · N + 6 · L · C · T) / peak, as docs/cuda.md says. */
  mfu: number | null;
  gemm_bound_fraction: number | null;
  peers: Record<CardPeer, number | null>;
  /** Ours over the best of the peers. */
  ratio: number | null;
  device_mib: { ours: number | null } & Record<CardPeer, number | null>;
  arena_equals_plan: boolean | null;
}

export function summariseCard(m: CardMeasurement, peak: number | undefined): CardSummary {
  const rate = (side: Side<Round, unknown> | undefined) =>
    side === undefined || 'error' in side ? null : median(side.rounds.map(({ tok_s }) => tok_s));
  const memory = (side: Side<Round, unknown> | undefined) =>
    side === undefined || 'error' in side ? null : (side.rounds.at(-1)?.device_mib ?? null);
  const ofPeers = <T>(value: (side: Side<Round, Ready> | undefined) => T) =>
    Object.fromEntries(CARD_PEERS.map((name) => [name, value(m.peers[name])])) as Record<CardPeer, T>;
  const ours = rate(m.ours);
  const peers = ofPeers(rate);
  const best = Math.max(...Object.values(peers).map((value) => value ?? 0));
  return {
    tok_s: ours,
    mfu: ours === null || peak === undefined ? null : (ours * m.flops_per_token) / peak,
    gemm_bound_fraction:
      ours === null || m.limits === null ? null : (ours * m.limits.gemm_seconds) / m.step.tokens,
    peers,
    ratio: ours === null || best === 0 ? null : ours / best,
    device_mib: { ours: memory(m.ours), ...ofPeers(memory) },
    arena_equals_plan:
      'error' in m.ours ? null : m.ours.rounds.at(-1)!.measured.arena === m.ours.ready.plan.arena,
  };
}

/** The table for people, and a line for each bar and for what was left out. */
export function cardTable(measurements: readonly CardMeasurement[], peak: number | undefined): string {
  const whole = (value: number | null) => (value === null ? '–' : Math.round(value).toLocaleString('en-US'));
  const percent = (value: number | null) => (value === null ? '–' : `${(100 * value).toFixed(1)} %`);
  const times = (value: number | null) => (value === null ? '–' : value.toFixed(2));
  const header = [
    'cell',
    'tok/s',
    'MFU',
    'of GEMMs',
    ...CARD_PEERS,
    '× best',
    'MiB',
    ...CARD_PEERS.map((p) => `MiB ${p}`),
  ];
  const rows = measurements.map((m) => {
    const s = summariseCard(m, peak);
    return [
      cardCellName(m.cell),
      whole(s.tok_s),
      percent(s.mfu),
      percent(s.gemm_bound_fraction),
      ...CARD_PEERS.map((name) => whole(s.peers[name])),
      times(s.ratio),
      whole(s.device_mib.ours),
      ...CARD_PEERS.map((name) => whole(s.device_mib[name])),
    ];
  });
  const widths = header.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i].length)));
  const lines = [header, ...rows].map((row) =>
    row.map((text, i) => (i === 0 ? text.padEnd(widths[i]) : text.padStart(widths[i]))).join('  '),
  );
  return [...lines, ...measurements.flatMap((m) => barLines(m, summariseCard(m, peak)))].join('\n');
}

function barLines(m: CardMeasurement, s: CardSummary): string[] {
  const name = cardCellName(m.cell);
  const { tokensPerSecond, mfu, gemmBoundFraction, ratio } = barsOf(m.cell);
  const bar = (what: string, least: number | undefined, value: number | null, said: string) =>
    least === undefined
      ? []
      : [
          `${name}  ${what} ≥ ${said}: ${value === null ? 'not measured' : value >= least ? 'met' : 'NOT MET'}`,
        ];
  return [
    ...bar('tokens/s (of one H100)', tokensPerSecond, s.tok_s, `${tokensPerSecond}`),
    ...bar('MFU', mfu, s.mfu, `${100 * (mfu ?? 0)} %`),
    ...bar('part of the GEMM bound', gemmBoundFraction, s.gemm_bound_fraction, `${gemmBoundFraction}`),
    ...bar('times the best peer', ratio, s.ratio, `${ratio}`),
    ...(s.arena_equals_plan === null
      ? []
      : [`${name}  arena = plan: ${s.arena_equals_plan ? 'met' : 'NOT MET'}`]),
    ...('error' in m.ours ? [`${name}  was not measured: ${m.ours.error}`] : []),
    ...Object.entries(m.peers).flatMap(([peer, side]) =>
      'error' in side ? [`${name}  ${peer} was not measured: ${side.error}`] : [],
    ),
  ];
}
