import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { addon } from '../engine/device/addon.js';
import { defaultThreads } from '../engine/machine/threads.js';
import { UserError } from '../errors.js';
import { version } from '../recipes/version.js';
import { benchOnCard } from './card/speed.js';
import { ALL_CELLS, type Cell, cellName, parseCells, stepsPerRound } from './cells.js';
import { Contender } from './contender.js';
import { root, scratch, sources } from './paths.js';
import { findPeerPython } from './peer_python.js';
import type { Limits, OwnReady, OwnRound, Ready, Round } from './protocol.js';
import { bars, type CellMeasurement, differences, PEERS, type PeerName, summarise, table } from './report.js';
import { circumstances, ROUNDS_TO_STORE, store } from './results.js';
import { SHAPES } from './shapes.js';
import { ALPACA_ROWS, COUNTED, makeWorkload, meanSizes } from './workload.js';

// `npm run bench`: this project and PyTorch + transformers at the same work, in rounds that take turns.

interface Options {
  cells?: string;
  rounds: number;
  steps?: number;
  threads: number;
  peer: boolean;
  peerPython?: string;
  emulatedBf16: boolean;
  device: string;
  seconds?: number;
  tiny: boolean;
  out?: string;
}

const say = (text: string) => console.error(`bench: ${text}`);

async function main(): Promise<void> {
  const options = new Command('bench')
    .description('this project and PyTorch + transformers at the same work, in rounds that take turns')
    .option(
      '--cells <list>',
      'shape/precision/workload, separated by commas, * for all (default: every cell)',
    )
    .option('--rounds <n>', `rounds of each side; at least ${ROUNDS_TO_STORE} to be stored`, count, 5)
    .option('--steps <n>', 'steps of a round (default: by cell, 2 to 64)', count)
    .option('--threads <n>', 'threads of each side', count, defaultThreads())
    .option('--no-peer', 'without PyTorch')
    .option(
      '--peer-python <path>',
      'a Python with torch and transformers (default: one is installed in build/peer)',
      process.env.TSTRAIN_PEER_PYTHON,
    )
    .option('--emulated-bf16', 'bf16 also on a processor without bf16 instructions', false)
    .addOption(
      new Option('--device <name>', 'cuda: the cells of a card, each side after the other')
        .choices(['cpu', 'cuda'])
        .default('cpu'),
    )
    .option('--seconds <n>', 'on a card: begin nothing after so long', count)
    .option('--tiny', 'on a card: the sizes for a simulated one', false)
    .option('--out <file>', 'where to store the result (default: benchmarks/results/<date>-<machine>.json)')
    .parse()
    .opts<Options>();
  if (options.device === 'cuda') {
    if (options.cells !== undefined) throw new UserError('--cells: those of a card are all measured');
    return benchOnCard(options, say);
  }
  const cells = options.cells === undefined ? [...ALL_CELLS] : parseCells(options.cells);
  const emulated = addon.info().bf16Gemm === 'float32';
  const chosen = cells.filter((cell) => {
    if (cell.precision === 'bf16' && emulated && !options.emulatedBf16)
      say(`${cellName(cell)} left out: no bf16 instructions here (--emulated-bf16 runs it all the same)`);
    else if (cell.workload === 'alpaca' && !existsSync(ALPACA_ROWS))
      say(`${cellName(cell)} left out: ${relative(root, ALPACA_ROWS)} is not there`);
    else return true;
    return false;
  });
  const peer = options.peer ? findPeerPython(options.peerPython, say) : { missing: '--no-peer' };
  if ('missing' in peer) say(`no peer (${peer.missing}): this project alone is measured`);

  mkdirSync(scratch, { recursive: true });
  const measuredIn = circumstances(options.threads, options.rounds);
  const measurements: CellMeasurement[] = [];
  for (const cell of chosen) {
    const python = 'python' in peer ? peer.python : undefined;
    measurements.push(await measure(cell, options, python, emulated && cell.precision === 'bf16'));
    if (measurements.length < chosen.length) say(`\n${table(measurements)}`);
  }
  if (measurements.length === 0) return;

  console.log(`${table(measurements)}\n\n${bars(measurements)}`);
  if (options.rounds < ROUNDS_TO_STORE) return say(`fewer than ${ROUNDS_TO_STORE} rounds: not stored`);
  const file = store({ ...measuredIn, ...result(peer, measurements) }, { file: options.out });
  say(`stored in ${relative(process.cwd(), file)}`);
}

/** Starts every side of a cell, lets them take turns, and checks that they did the same work. */
async function measure(
  cell: Cell,
  { rounds, steps, threads }: Options,
  python: string | undefined,
  emulated: boolean,
): Promise<CellMeasurement> {
  const name = cellName(cell);
  const workload = await makeWorkload(cell, rounds, steps ?? stepsPerRound(cell));
  const path = (ending: string) => join(scratch, `${name.replaceAll('/', '-')}${ending}`);
  writeFileSync(path('.json'), JSON.stringify(workload));
  const env = {
    OMP_NUM_THREADS: String(threads),
    MKL_NUM_THREADS: String(threads),
    TSTRAIN_DEVICE: 'cpu',
    TORCHINDUCTOR_CACHE_DIR: join(scratch, 'inductor'),
  };
  const args = [path('.json'), cell.precision, String(threads)];
  const node = (script: string) => [join(import.meta.dirname, script), ...args];
  const started: { stop(): Promise<void> }[] = [];
  const start = async <R, Rd>(side: string, command: string, words: string[]) => {
    say(`${name}: ${side} loads and warms up`);
    const contender = await Contender.start<R, Rd>(command, words, env, path(`-${side}.log`));
    started.push(contender);
    return contender;
  };
  try {
    const ours = await start<OwnRound, OwnReady>('ours', process.execPath, node('step_runner.js'));
    const limits = await start<Limits, object>('limits', process.execPath, node('limits_runner.js'));
    const measurement: CellMeasurement = {
      cell,
      emulated_bf16: emulated,
      counted: COUNTED[cell.workload],
      step: { documents: workload.steps[0].length, ...meanSizes(workload.steps) },
      steps_per_round: workload.stepsPerRound,
      warmup_steps: workload.warmupSteps,
      ours: { ready: ours.ready, rounds: [] },
      peers: {},
      limits: [],
    };
    const peers = new Map<PeerName, Contender<Round, Ready>>();
    // A peer that cannot do a cell (memory, a compiler that is not there) is no reason to lose the others.
    const fail = (peer: PeerName, error: unknown) => {
      // What is stored says nothing of where the project lies on this machine.
      const message = (error as Error).message.replaceAll(`${root}/`, '');
      measurement.peers[peer] = { error: message };
      peers.delete(peer);
      say(`${name}: ${peer} fails: ${message}`);
    };
    for (const peer of python === undefined ? [] : PEERS) {
      const words = [join(sources, 'peer_torch.py'), ...args, ...(peer === 'compile' ? ['--compile'] : [])];
      try {
        peers.set(peer, await start<Round, Ready>(peer, python!, words));
      } catch (error) {
        fail(peer, error);
      }
    }

    const turns: (() => Promise<string>)[] = [
      async () => {
        const round = await ours.round();
        measurement.ours.rounds.push(round);
        return `ours ${round.tok_s.toFixed(0)}`;
      },
      async () => {
        measurement.limits.push(await limits.round());
        return '';
      },
      ...PEERS.map((peer) => async () => {
        const contender = peers.get(peer);
        if (contender === undefined) return '';
        try {
          const round = await contender.round();
          const side = (measurement.peers[peer] ??= { ready: contender.ready, rounds: [] });
          if ('rounds' in side) side.rounds.push(round);
          return `${peer} ${round.tok_s.toFixed(0)}`;
        } catch (error) {
          fail(peer, error);
          return '';
        }
      }),
    ];
    for (let r = 0; r < rounds; r++) {
      // Each round begins with another side, so that none always runs behind the same one.
      const order = turns.map((_, i) => turns[(i + r) % turns.length]);
      const said: string[] = [];
      for (const turn of order) said.push(await turn());
      say(`${name}: round ${r + 1} of ${rounds}, tok/s: ${said.filter(Boolean).sort().join(', ')}`);
    }

    for (const [peer, side] of Object.entries(measurement.peers)) {
      const found = 'error' in side ? [] : differences(measurement.ours, side);
      if (found.length > 0) throw new Error(`${name}: ${peer} did other work: ${found.join('; ')}`);
    }
    return measurement;
  } finally {
    for (const contender of started) await contender.stop();
  }
}

/** Every round's figure, and the versions of all sides. */
function result(peer: ReturnType<typeof findPeerPython>, measurements: readonly CellMeasurement[]) {
  const versions = measurements.flatMap((m) => [
    m.ours.ready.versions,
    ...Object.values(m.peers).map((side) => ('error' in side ? {} : side.ready.versions)),
  ]);
  return {
    versions: Object.assign({ tstrain: version }, ...versions),
    peer: 'missing' in peer ? { missing: peer.missing } : 'PyTorch + transformers',
    shapes: SHAPES,
    cells: measurements.map((m) => ({ name: cellName(m.cell), summary: summarise(m), ...m })),
  };
}

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 1024)
    throw new InvalidArgumentError('expected a whole number from 1 to 1024');
  return value;
}

try {
  await main();
} catch (error) {
  say(error instanceof UserError ? error.message : ((error as Error).stack ?? String(error)));
  process.exitCode = 1;
}
