import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { TrainLine } from '../../engine/train/metrics.js';
import { root, sources } from '../paths.js';
import { pythonWithCard } from '../peer_python.js';
import { SHAPES } from '../shapes.js';
import { median } from '../statistics.js';
import { cardCellName } from './card_cells.js';
import type { Curves } from './curves.js';
import type { Decoded } from './decoding.js';
import type { OffloadedUpdates } from './offload.js';
import { type CardMeasurement, summariseCard } from './speed_report.js';

/** A card's answer: in words for the table, and all of it. Or why it was not asked. */
export type Answer = { said: string; wrong?: boolean; data?: unknown } | { leftOut: string };

export interface Question {
  name: string;
  /** Seconds that it gets at most. */
  limit: number;
  ask(asking: Asking): Promise<Answer>;
}

/** What a question is asked with. */
export interface Asking {
  /** Seconds that it has. */
  seconds: number;
  /** A directory for files on the way. */
  scratch: string;
  /** Whether the card is tests/cudasim, which is asked for less: it computes on the processor. */
  simulated: boolean;
}

interface Ran {
  stdout: string;
  /** Why it failed, in a line; empty when it did not. */
  failure: string;
}

/** Programs that are at work, each with what it has started as a group of its own: none may go on beside the next question. */
const atWork = new Set<ChildProcess>();

/** Ends whatever a question has started. */
export function stopAll(): void {
  for (const child of atWork) stopGroup(child);
}

function stopGroup({ pid }: ChildProcess): void {
  try {
    process.kill(-pid!, 'SIGKILL');
  } catch {
    // It never began, or has ended.
  }
}

/** Runs a program for at most so long. Never throws: what a program says before it dies is an answer. */
function run(
  command: string,
  args: readonly string[],
  { seconds, env = {} }: { seconds: number; env?: NodeJS.ProcessEnv },
): Promise<Ran> {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    atWork.add(child);
    const [stdout, stderr]: string[][] = [[], []];
    child.stdout.setEncoding('utf8').on('data', (text) => stdout.push(text));
    child.stderr.setEncoding('utf8').on('data', (text) => stderr.push(text));
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      stopGroup(child);
    }, seconds * 1000);
    const end = (failure: string) => {
      clearTimeout(timer);
      atWork.delete(child);
      resolve({ stdout: stdout.join(''), failure });
    };
    child.on('error', (error) => end(error.message));
    child.on('close', (code, signal) => {
      if (code === 0) return end('');
      if (late) return end(`not done after ${Math.round(seconds)} s`);
      // Where Node dies of an error, the line that says so is not the last.
      const said = stderr.join('').trim();
      const last = /\w*Error: .*/.exec(said)?.[0] ?? said.split('\n').at(-1)!.trim();
      const how = signal ? `ended by ${signal}` : `status ${code}`;
      end(last ? `${last} (${how})` : how);
    });
  });
}

function node(
  script: string,
  args: readonly string[],
  options: { seconds: number; env?: NodeJS.ProcessEnv },
) {
  return run(process.execPath, [join(root, 'dist', script), ...args], options);
}

/** A program of benchmarks/card that was built in advance. */
function program(name: string): string {
  return join(root, 'build/card', name);
}

/** The answer of a program that prints JSON in its last line, failed or not. */
function answerOf({ stdout, failure }: Ran, words: (data: never) => string): Answer {
  const last = stdout.trim().split('\n').at(-1)!;
  const data = last.startsWith('{') ? JSON.parse(last) : undefined;
  if (failure === '' && data !== undefined) return { said: words(data as never), data };
  return { said: failure || 'it said nothing', wrong: true, data };
}

const doctor: Question = {
  name: 'doctor',
  limit: 30,
  async ask({ seconds }) {
    const ran = await node('bin/tstrain.js', ['doctor', '--json'], { seconds });
    return answerOf(ran, ({ device }: { device: string }) => `device auto is ${device}`);
  },
};

const fragments: Question = {
  name: 'fragments of mma, ldmatrix, cp.async',
  limit: 60,
  async ask({ seconds }) {
    const files = ['fragments.ptx', 'fragments.cu'].map((name) => join(sources, 'card', name));
    const ran = await run(program('fragments'), files, { seconds });
    const answer = answerOf(
      ran,
      ({ wrong }: { wrong: object }) => `as documented: ${Object.keys(wrong).join(', ')}`,
    );
    const wrong = 'data' in answer && (answer.data as { wrong?: unknown })?.wrong;
    return 'wrong' in answer && wrong ? { ...answer, said: `WRONG: ${JSON.stringify(wrong)}` } : answer;
  },
};

function measureCopies({ seconds, simulated }: Asking): Promise<Ran> {
  return run(program('copies'), [simulated ? '16' : '1024'], { seconds });
}

const copies: Question = {
  name: 'copies',
  limit: 60,
  async ask(asking) {
    return answerOf(
      await measureCopies(asking),
      (d: Record<string, number>) =>
        `GB/s: in ${d.host_to_card}, out ${d.card_to_host}, both ${d.both_at_once}, ` +
        `within ${d.within_card_read_and_written} (read + written)`,
    );
  },
};

/** Copies are measured once more: the machine's memory and the bus may be another's too, and busier than a minute ago. */
const offload: Question = {
  name: 'AdamW over the bus',
  limit: 60,
  async ask(asking) {
    const { seconds, simulated } = asking;
    const copied = answerOf(await measureCopies({ ...asking, seconds: seconds / 2 }), () => '');
    if ('leftOut' in copied || copied.wrong) return copied;
    const of = copied.data as { both_at_once: number };
    const size = simulated ? 2 ** 12 : 2 ** 26;
    const ran = await node('benchmarks/card/offload.js', [String(size)], { seconds: seconds / 2 });
    const answer = answerOf(ran, (updates: OffloadedUpdates) => {
      const each = (['float32', 'bfloat16'] as const).map((state) => {
        const { seconds, gb_per_s_each_way: rate } = updates[state];
        return `${state} moments ${(seconds * 1e3).toFixed(2)} ms, ${rate.toFixed(1)}`;
      });
      return `GB/s each way: ${each.join('; ')}; copies both ways at once ${(of.both_at_once / 2).toFixed(1)}`;
    });
    return 'data' in answer ? { ...answer, data: { updates: answer.data, copies: of } } : answer;
  },
};

const launches: Question = {
  name: 'launches from JavaScript',
  limit: 60,
  async ask({ seconds }) {
    const ran = await node('benchmarks/card/launches.js', [], { seconds });
    return answerOf(
      ran,
      ({ of_one_element: { queued_per_s, done_per_s } }: { of_one_element: Record<string, number> }) =>
        `${queued_per_s} queued in a second, ${done_per_s} done`,
    );
  },
};

/** Tests that tests/case_runner.ts runs. */
function cases(
  name: string,
  limit: number,
  script: string,
  args: string[],
  env: NodeJS.ProcessEnv,
): Question {
  return {
    name,
    limit,
    async ask({ seconds }) {
      const answer = answerOf(
        await node(`tests/${script}`, args, { seconds, env }),
        ({ passed, failed }: { passed: number; failed: { name: string }[] }) =>
          failed.length === 0
            ? `all ${passed} hold`
            : `${failed.length} of ${passed + failed.length} FAIL: ${failed[0].name}`,
      );
      const failed = 'data' in answer && (answer.data as { failed?: unknown[] })?.failed;
      return 'said' in answer && failed && failed.length > 0 ? { ...answer, wrong: true } : answer;
    },
  };
}

const gemms: Question = {
  name: 'matrix products',
  limit: 270,
  async ask({ seconds, scratch, simulated }) {
    const json = join(scratch, 'gemm_sweep.json');
    // What is queued when the time is up is still measured, and the table printed.
    const budget = Math.floor(seconds - 20);
    if (budget < 10) return { leftOut: 'no time was left' };
    const tiny = simulated ? ['--tiny'] : [];
    const ran = await run(program('gemm_sweep'), ['--seconds', String(budget), '--json', json, ...tiny], {
      seconds,
    });
    const data = {
      table: ran.stdout.split('\n'),
      ...(existsSync(json) ? { measured: JSON.parse(readFileSync(json, 'utf8')) } : {}),
    };
    if (ran.failure !== '') return { said: ran.failure, wrong: true, data };
    return { said: ran.stdout.trim().split('\n').at(-1)!, data };
  },
};

/**
 * Trains a shape from scratch on random ids, in `directory`; 4 rows of 512 a step, or shorter ones of the smallest.
 * `under`: the words of a tool that runs it; `env`: variables on top.
 */
async function train(
  directory: string,
  shape: keyof typeof SHAPES,
  steps: number,
  { seconds, under = [], env }: { seconds: number; under?: string[]; env?: NodeJS.ProcessEnv },
) {
  const length = shape === '260k' ? 64 : 512;
  const { vocab_size } = SHAPES[shape];
  let state = 1;
  const id = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % vocab_size;
  };
  const row = () => {
    const ids = Array.from({ length }, id);
    return JSON.stringify({ ids, labels: ids });
  };
  const data = `${directory}.jsonl`;
  writeFileSync(data, `${Array.from({ length: 4 * steps }, row).join('\n')}\n`);
  const config = {
    model_config: SHAPES[shape],
    device: 'cuda',
    bf16: true,
    data_path: data,
    output_dir: directory,
    max_steps: steps,
    per_device_train_batch_size: 4,
    logging_steps: 1,
    save_strategy: 'no',
  };
  writeFileSync(`${directory}.yaml`, stringify(config));
  const [command, ...args] = [...under, process.execPath, join(root, 'dist/bin/tstrain.js')];
  return run(command, [...args, '--config', `${directory}.yaml`, '--trace'], { seconds, env });
}

const NO_GRAPHS = { TSTRAIN_CUDA_GRAPHS: '0' };

/** Its micro-batches are of one shape, so that most of them are launches of a CUDA graph. */
const repeated: Question = {
  name: '100 steps of 110M, three times',
  limit: 240,
  async ask(asking) {
    const [shape, steps] = asking.simulated ? (['260k', 4] as const) : (['110m', 100] as const);
    const runs: { name: string; hash: string; losses: number[]; milliseconds: number }[] = [];
    for (const [name, env] of [
      ['first', {}],
      ['second', {}],
      ['without graphs', NO_GRAPHS],
    ] as const) {
      const directory = join(asking.scratch, name);
      const { failure } = await train(directory, shape, steps, { seconds: asking.seconds / 3, env });
      if (failure !== '') return { said: `${name}: ${failure}`, wrong: true, data: runs };
      const model = readFileSync(join(directory, 'model.safetensors'));
      const text = readFileSync(join(directory, 'metrics.jsonl'), 'utf8');
      const lines: TrainLine[] = text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
      runs.push({
        name,
        hash: createHash('sha256').update(model).digest('hex'),
        losses: lines.map(({ loss }) => loss),
        milliseconds: median(lines.map(({ step_time_ms }) => step_time_ms)),
      });
    }
    const others = runs.filter(({ hash }) => hash !== runs[0].hash).map(({ name }) => name);
    const { losses } = runs[0];
    const [, graphs, called] = runs.map(({ milliseconds }) => milliseconds.toFixed(2));
    return {
      said:
        `${others.length === 0 ? 'equal bytes' : `OTHER bytes: ${others.join(', ')}`}, loss ` +
        `${losses[0].toFixed(3)} to ${losses.at(-1)!.toFixed(3)}, a step in ${graphs} ms, without graphs ${called}`,
      wrong: others.length > 0,
      data: runs,
    };
  },
};

const sanitizer: Question = {
  name: 'compute-sanitizer',
  limit: 420,
  async ask(asking) {
    if (spawnSync('compute-sanitizer', ['--version']).error)
      return { leftOut: 'there is no compute-sanitizer here' };
    const tools = ['memcheck', 'racecheck', 'initcheck', 'synccheck'];
    const data: Record<string, string> = {};
    for (const tool of tools) {
      const under = ['compute-sanitizer', '--tool', tool, '--error-exitcode', '99'];
      const directory = join(asking.scratch, tool);
      const { failure } = await train(directory, '260k', 1, {
        seconds: asking.seconds / tools.length,
        under,
      });
      data[tool] = failure;
    }
    const failed = tools.filter((tool) => data[tool] !== '');
    if (failed.length === 0)
      return { said: `${tools.join(', ')} find nothing in a step of a small model`, data };
    return { said: failed.map((tool) => `${tool}: ${data[tool]}`).join('; '), wrong: true, data };
  },
};

/** Kernels of a training step, each alone, as ncu --csv prints them: a line a kernel and metric, names in the first one. */
export function kernelTimes(csv: string): { kernel: string; launches: number; microseconds: number }[] {
  const rows = csv
    .split('\n')
    .filter((line) => line.startsWith('"'))
    .map((line) => line.slice(1, line.lastIndexOf('"')).split('","'));
  const [names, ...lines] = rows;
  const column = (name: string) => names.indexOf(name);
  const kernels = new Map<string, { kernel: string; launches: number; microseconds: number }>();
  const units: Record<string, number> = {
    ns: 1e-3,
    us: 1,
    ms: 1e3,
    s: 1e6,
    nsecond: 1e-3,
    usecond: 1,
    msecond: 1e3,
  };
  for (const line of lines) {
    const kernel = line[column('Kernel Name')];
    const time =
      Number(line[column('Metric Value')].replaceAll(',', '')) * units[line[column('Metric Unit')]];
    const sum = kernels.get(kernel) ?? { kernel, launches: 0, microseconds: 0 };
    kernels.set(kernel, { kernel, launches: sum.launches + 1, microseconds: sum.microseconds + time });
  }
  return [...kernels.values()].sort((a, b) => b.microseconds - a.microseconds);
}

const kernels: Question = {
  name: 'kernels of a step of 110M, by ncu',
  limit: 240,
  async ask({ seconds, scratch }) {
    if (spawnSync('ncu', ['--version']).error) return { leftOut: 'there is no ncu here' };
    const [directory, log] = [join(scratch, 'step'), join(scratch, 'ncu.csv')];
    // Clocks are not ncu's to change: the card may be shared.
    const options = [
      '--csv',
      '--clock-control',
      'none',
      '--metrics',
      'gpu__time_duration.sum',
      '--log-file',
      log,
    ];
    const { failure } = await train(directory, '110m', 1, { seconds, under: ['ncu', ...options] });
    if (failure !== '')
      return { said: failure, wrong: true, data: existsSync(log) && readFileSync(log, 'utf8') };
    const data = kernelTimes(readFileSync(log, 'utf8'));
    const [longest] = data;
    if (longest === undefined) return { said: 'ncu saw no kernel', wrong: true };
    const total = data.reduce((sum, { microseconds }) => sum + microseconds, 0);
    const share = ((100 * longest.microseconds) / total).toFixed(0);
    return { said: `${(total / 1e3).toFixed(2)} ms, of which ${share} % ${longest.kernel}`, data };
  },
};

const decoding: Question = {
  name: 'tokens/s of texts gone on with',
  limit: 60,
  async ask({ seconds, simulated }) {
    const shapes = simulated ? ['260k'] : ['110m', '1.1b'];
    const data: Record<string, Record<string, Decoded>> = {};
    for (const shape of shapes) {
      const sides: [string, NodeJS.ProcessEnv][] = [
        ['graphs', {}],
        ['called', NO_GRAPHS],
      ];
      for (const [side, env] of sides) {
        const ran = await node('benchmarks/card/decoding.js', [shape, simulated ? '8' : '192'], {
          seconds: seconds / shapes.length / sides.length,
          env,
        });
        const answer = answerOf(ran, () => '');
        if ('leftOut' in answer || answer.wrong) return { ...answer, data };
        data[shape] = { ...data[shape], [side]: answer.data as Decoded };
      }
    }
    const rates = Object.entries(data).map(([shape, { graphs, called }]) => {
      const each = Object.keys(graphs).map(
        (texts) =>
          `${texts} at once ${Math.round(graphs[texts])} (${Math.round(called[texts])} without graphs)`,
      );
      return `${shape}: ${each.join(', ')}`;
    });
    return { said: rates.join('; '), data };
  },
};

/** Losses of 110M over 100 steps that lie so far from float32's, on average, are another curve. */
const FAR = 0.02;

const curves: Question = {
  name: 'curves against PyTorch',
  limit: 240,
  async ask({ seconds, scratch, simulated }) {
    const python = pythonWithCard('python3');
    if ('missing' in python) return { leftOut: `no PyTorch: ${python.missing}` };
    const [shape, steps] = simulated ? ['260k', '2'] : ['110m', '100'];
    const directory = join(scratch, 'curves');
    const words = ['--shape', shape, '--steps', steps, '--directory', directory, '--python', python.python];
    const answer = answerOf(
      await node('benchmarks/card/curves.js', words, { seconds }),
      ({ ours, ours_from_fp32: off, torch_bf16_from_fp32: theirs }: Curves) =>
        `loss ${ours[0].toFixed(3)} to ${ours.at(-1)!.toFixed(3)}; from PyTorch's float32 on average ` +
        `${off.toExponential(1)}, its own bf16 ${theirs.toExponential(1)}`,
    );
    const off = 'data' in answer ? (answer.data as Curves | undefined)?.ours_from_fp32 : undefined;
    return 'said' in answer && off !== undefined ? { ...answer, wrong: !(off <= FAR) } : answer;
  },
};

/** A side of the comparison that has begun is let finish, compiling included. */
const LAST_SIDE = 100;

const speed: Question = {
  name: 'speed beside PyTorch',
  limit: 330,
  async ask({ seconds, scratch, simulated }) {
    const out = join(scratch, 'speed.json');
    const sizes = simulated ? ['--tiny', '--rounds', '1', '--steps', '1'] : ['--rounds', '3'];
    const words = [
      '--device',
      'cuda',
      '--seconds',
      String(Math.max(1, Math.floor(seconds - LAST_SIDE))),
      '--out',
      out,
    ];
    const ran = await node('benchmarks/bench.js', [...words, ...sizes], { seconds });
    const measured: { cells: CardMeasurement[]; peak_flops: number | null } | undefined = existsSync(out)
      ? JSON.parse(readFileSync(out, 'utf8'))
      : undefined;
    const said = measured?.cells.map((cell) => inWords(cell, measured.peak_flops ?? undefined)).join('; ');
    const data = { table: ran.stdout.split('\n'), measured };
    if (ran.failure !== '')
      return { said: [ran.failure, said].filter(Boolean).join('; '), wrong: true, data };
    return { said: said ?? 'it measured nothing', wrong: said === undefined, data };
  },
};

function inWords(cell: CardMeasurement, peak: number | undefined): string {
  const { tok_s, mfu, ratio } = summariseCard(cell, peak);
  if (tok_s === null)
    return `${cardCellName(cell.cell)} left out: ${'error' in cell.ours ? cell.ours.error : ''}`;
  const parts = [
    `${Math.round(tok_s)} tokens/s`,
    mfu === null ? [] : `MFU ${(100 * mfu).toFixed(0)} %`,
    ratio === null ? [] : `${ratio.toFixed(2)} × PyTorch's best`,
  ];
  return `${cardCellName(cell.cell)} ${parts.flat().join(', ')}`;
}

/** A directory without libraries: the driver alone is left, which comes from nowhere else. */
const DRIVER_ALONE = { TSTRAIN_CUDA_PATH: join(root, 'configs') };

/** What a card is asked, in three parts of less than nine minutes each. */
export const PARTS: Record<string, readonly Question[]> = {
  a: [
    doctor,
    fragments,
    copies,
    offload,
    launches,
    cases('op cases', 120, 'run_op_cases.js', ['cuda'], {}),
    cases('op cases, driver alone', 90, 'run_op_cases.js', ['cuda'], DRIVER_ALONE),
    gemms,
  ],
  b: [cases('goldens', 120, 'run_goldens.js', [], { TSTRAIN_DEVICE: 'cuda' }), repeated, decoding, curves],
  c: [speed, kernels, sanitizer],
};
