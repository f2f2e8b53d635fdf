import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { addon } from '../../engine/device/addon.js';
import { UserError } from '../../errors.js';
import { Contender } from '../contender.js';
import { root, scratch, sources } from '../paths.js';
import { type PeerPython, pythonWithCard } from '../peer_python.js';
import type { Limits, OwnReady, OwnRound, Ready, Round } from '../protocol.js';
import { differences, type Side } from '../report.js';
import { circumstances, store } from '../results.js';
import { planMemory } from '../training.js';
import { meanSizes } from '../workload.js';
import {
  CARD_CELLS,
  type CardCell,
  cardCellName,
  cardWorkload,
  modelOfCell,
  TINY_CELLS,
} from './card_cells.js';
import { modelFlops } from './model_flops.js';
import { peakOf } from './rates.js';
import { CARD_PEERS, type CardMeasurement, type CardPeer, cardTable } from './speed_report.js';

// `npm run bench -- --device cuda`: this project on a card, and PyTorch + transformers beside it where it has one.

export interface SpeedOptions {
  rounds: number;
  /** Of a round; default 3. */
  steps?: number;
  threads: number;
  peer: boolean;
  peerPython?: string;
  /** What is not begun by then is left out. */
  seconds?: number;
  /** Sizes for the simulated card. */
  tiny: boolean;
  out?: string;
}

const STEPS_PER_ROUND = 3;
/** Less is not worth a start: a side loads for so long. */
const LEAST_SECONDS = 20;

/**
 * Measures every cell, one side after the other, for each wants the card's memory for itself.
 * @throws UserError when there is no card
 */
export async function benchOnCard(options: SpeedOptions, say: (text: string) => void): Promise<void> {
  const cuda = addon.cuda();
  if (cuda.missing !== '') throw new UserError(`--device cuda: there is no card: ${cuda.missing}`);
  const python = options.peer ? pythonWithCard(options.peerPython ?? 'python3') : { missing: '--no-peer' };
  if ('missing' in python) say(`no peer: ${python.missing}`);
  const start = performance.now();
  const left = () => (options.seconds ?? Number.POSITIVE_INFINITY) - (performance.now() - start) / 1000;

  mkdirSync(scratch, { recursive: true });
  const peak = peakOf(cuda.card);
  const about = {
    ...circumstances(options.threads, options.rounds),
    cuda,
    peak_flops: peak ?? null,
    peer: 'missing' in python ? python : 'PyTorch + transformers',
  };
  const measurements: CardMeasurement[] = [];
  const result = () => ({ ...about, cells: measurements.map((m) => ({ name: cardCellName(m.cell), ...m })) });
  for (const cell of options.tiny ? TINY_CELLS : CARD_CELLS) {
    measurements.push(await measure(cell, options, python, left, say));
    // What stops this loses a cell at most.
    if (options.out !== undefined) store(result(), { file: options.out });
  }
  const named = peak === undefined ? 'no peak is known of it, so no MFU' : `peak ${peak / 1e12} TFLOP/s`;
  console.log(`${cuda.card}, ${named}\n${cardTable(measurements, peak)}`);
  if (options.out === undefined && !options.tiny) {
    const card = cuda.card.toLowerCase().match(/[a-z0-9]+/g)!;
    say(`stored in ${store(result(), { suffix: `-${card.join('-')}` })}`);
  }
}

async function measure(
  cell: CardCell,
  { rounds, steps = STEPS_PER_ROUND, threads, tiny }: SpeedOptions,
  python: PeerPython,
  left: () => number,
  say: (text: string) => void,
): Promise<CardMeasurement> {
  const name = cardCellName(cell);
  const workload = cardWorkload(cell, steps);
  const { config, length } = modelOfCell(workload);
  const path = (ending: string) => join(scratch, `${name.replaceAll('/', '-')}-card${ending}`);
  writeFileSync(path('.json'), JSON.stringify(workload));
  const args = [path('.json'), 'bf16', String(threads)];
  const env = { OMP_NUM_THREADS: String(threads), TSTRAIN_DEVICE: 'cuda' };

  /** Starts a side, and asks it for its rounds. */
  const ask = async <R, Rd>(
    side: string,
    command: string,
    words: string[],
    count: number,
  ): Promise<Side<R, Rd>> => {
    if (left() < LEAST_SECONDS) return { error: 'no time was left' };
    say(`${name}: ${side}`);
    let contender: Contender<R, Rd> | undefined;
    try {
      contender = await Contender.start<R, Rd>(command, words, env, path(`-${side}.log`));
      const measured: R[] = [];
      for (let r = 0; r < count; r++) measured.push(await contender.round());
      return { ready: contender.ready, rounds: measured };
    } catch (error) {
      // What is stored says nothing of where the project lies on this machine.
      return { error: (error as Error).message.replaceAll(`${root}/`, '') };
    } finally {
      await contender?.stop();
    }
  };
  const node = (script: string) => [join(import.meta.dirname, '..', script), ...args];

  const plan = await planMemory(workload, 'bf16', 'cuda');
  const { free } = addon.ownMemory('cuda');
  const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  const ours: CardMeasurement['ours'] =
    plan.arena + plan.heap > free
      ? { error: `its plan takes ${gib(plan.arena + plan.heap)}, and ${gib(free)} of the card are free` }
      : await ask<OwnRound, OwnReady>('ours', process.execPath, node('step_runner.js'), rounds);
  // A simulated card takes minutes for these, and they say nothing.
  const limits =
    'error' in ours || tiny
      ? undefined
      : await ask<Limits, object>('limits', process.execPath, node('limits_runner.js'), 1);
  const measurement: CardMeasurement = {
    cell,
    step: { ...meanSizes(workload.steps), length },
    flops_per_token: modelFlops(config, length),
    ours,
    limits: limits === undefined || 'error' in limits ? null : limits.rounds[0],
    peers: {},
  };
  // 7B leaves a peer that keeps float32 weights and moments no room: the figures beside it are others' published ones.
  if ('missing' in python || cell.shape === '7b') return measurement;
  for (const peer of CARD_PEERS) {
    const words = [join(sources, 'peer_torch.py'), ...args, '--device', 'cuda', ...WORDS[peer]];
    const side = await ask<Round, Ready>(peer, python.python, words, rounds);
    const other = 'error' in side || 'error' in ours ? [] : differences(ours, side);
    measurement.peers[peer] = other.length > 0 ? { error: `it did other work: ${other.join('; ')}` } : side;
  }
  return measurement;
}

const WORDS: Record<CardPeer, string[]> = { eager: [], compile: ['--compile'], liger: ['--liger'] };
