import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { Command } from 'commander';
import { addon } from '../engine/device/addon.js';
import { defaultThreads } from '../engine/machine/threads.js';
import type { Precision } from '../engine/model/parameters.js';
import { type Gemm, GemmTimer, gemmFlops, gemmsOf } from './gemms.js';
import { scratch, sources } from './paths.js';
import { circumstances, ROUNDS_TO_STORE, store } from './results.js';
import { configOf, type ShapeName } from './shapes.js';
import { median, medianRatio } from './statistics.js';

// node dist/benchmarks/gemm.js: the GEMM rate through the op table against that of a plain oneDNN program, for the
// matrix products of a step over 4 × 512 tokens, in turns.

const SECONDS = 0.1;
const TOKENS = 2048;
const LABELS = 2044;
/** The op table's part of the plain program's rate that bf16 has to reach where the processor multiplies it. */
const BAR = 0.9;

const { shapes, precisions, rounds } = new Command('gemm')
  .option('--shapes <list>', 'of 260k, 15m, 110m', (text) => text.split(','), ['15m', '110m'])
  .option('--precisions <list>', 'of fp32, bf16', (text) => text.split(','), ['fp32', 'bf16'])
  .option('--rounds <n>', 'rounds of each side', Number, 5)
  .parse()
  .opts<{ shapes: ShapeName[]; precisions: Precision[]; rounds: number }>();

const threads = defaultThreads();
addon.setThreads(threads);
const measuredIn = circumstances(threads, rounds);
const plain = plainProgram();
const info = addon.info();
const plainVersion = plain === undefined ? 'none' : await plain.next();
console.log(
  `op table: ${info.instructionSet}, bf16 by ${info.bf16Gemm}, oneDNN ${info.onednn || 'none'}; plain program: ` +
    `${plainVersion}; ${threads} threads, ${rounds} rounds`,
);

/** Seconds of each round, and the ratio of the rates, by product; `step`: all products of a step, as often as it has them. */
const measured: Record<string, Record<string, Line>> = {};
for (const shape of shapes)
  for (const precision of precisions) {
    const gemms = gemmsOf(configOf(shape), TOKENS, LABELS);
    const timer = new GemmTimer(addon, gemms, precision);
    console.log(`\n${shape} ${precision}: GFLOP/s, medians\n${'product'.padEnd(12)}op table   plain   ratio`);
    const ours: number[][] = gemms.map(() => []);
    const theirs: (number | undefined)[][] = gemms.map(() => []);
    for (let r = 0; r < rounds; r++)
      for (const [i, gemm] of gemms.entries()) {
        // Each round the other side goes first.
        if (r % 2 === 0) ours[i].push(timer.time(gemm, SECONDS));
        theirs[i].push(await plain?.time(gemm, precision));
        if (r % 2 === 1) ours[i].push(timer.time(gemm, SECONDS));
      }
    timer.dispose();
    const lines: Record<string, Line> = {};
    for (const [i, gemm] of gemms.entries())
      lines[gemm.name] = print(gemm.name, gemmFlops(gemm), ours[i], theirs[i]);
    // A round's time for all products of a step.
    const total = (seconds: readonly (number | undefined)[][]) =>
      Array.from({ length: rounds }, (_, r) =>
        gemms.reduce((sum, { times }, i) => sum + times * (seconds[i][r] ?? Number.NaN), 0),
      );
    const flops = gemms.reduce((sum, gemm) => sum + gemm.times * gemmFlops(gemm), 0);
    const known = theirs.every((seconds) => seconds.every((s) => s !== undefined));
    lines.step = print('step', flops, total(ours), known ? total(theirs) : [undefined]);
    measured[`${shape}/${precision}`] = lines;
    const { ratio } = lines.step;
    if (precision === 'bf16' && ratio !== undefined && info.bf16Gemm !== 'float32')
      console.log(`≥ ${BAR} of the plain program: ${ratio >= BAR ? 'met' : 'NOT MET'}`);
  }
plain?.stop();
if (rounds >= ROUNDS_TO_STORE) {
  const file = store(
    {
      ...measuredIn,
      versions: { onednn: info.onednn, plain_program: plainVersion, node: process.versions.node },
      tokens: TOKENS,
      labels: LABELS,
      bar: BAR,
      products: measured,
    },
    { suffix: '-gemm' },
  );
  console.log(`stored in ${relative(process.cwd(), file)}`);
}

interface Line {
  gflops: number;
  seconds: readonly number[];
  plain_seconds: readonly (number | undefined)[];
  ratio: number | undefined;
}

/** One line of the table; the ratio is that of the rates, when both sides have one. */
function print(
  name: string,
  flops: number,
  ours: readonly number[],
  theirs: readonly (number | undefined)[],
): Line {
  const rate = (seconds: readonly number[]) => (flops / median(seconds) / 1e9).toFixed(1);
  const known = theirs.filter((seconds) => seconds !== undefined);
  const both = known.length === ours.length;
  const ratio = both ? medianRatio(known, ours) : undefined;
  console.log(
    name.padEnd(12) +
      rate(ours).padStart(8) +
      (both ? rate(known) : '–').padStart(8) +
      (ratio === undefined ? '–' : ratio.toFixed(2)).padStart(8),
  );
  return { gflops: flops / median(ours) / 1e9, seconds: ours, plain_seconds: theirs, ratio };
}

/** gemm_bound.cpp, compiled and running; undefined, with a word why, where it cannot be. */
function plainProgram() {
  mkdirSync(scratch, { recursive: true });
  const program = join(scratch, 'gemm_bound');
  const words = ['-O2', '-std=c++17', join(sources, 'gemm_bound.cpp'), '-ldnnl', '-o', program];
  const { status, error, stderr } = spawnSync('g++', words, { encoding: 'utf8' });
  if (status !== 0) {
    console.log(`the plain oneDNN program does not build: ${error?.message ?? stderr.trim().split('\n')[0]}`);
    return undefined;
  }
  const child = spawn(program, {
    env: { ...process.env, OMP_NUM_THREADS: String(threads) },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => {
    const { value, done } = await lines.next();
    if (done) throw new Error('the plain oneDNN program ended before its time');
    return value;
  };
  return {
    next,
    /** Mean seconds of one product; undefined where oneDNN has no fast way on this processor. */
    async time({ m, n, k, transA, transB, wide }: Gemm, precision: Precision): Promise<number | undefined> {
      const type = precision === 'bf16' ? 'bf16' : 'f32';
      child.stdin.write(`${m} ${n} ${k} ${+transA} ${+transB} ${type} ${wide ? 'f32' : type}\n`);
      const answer = await next();
      return answer === 'unsupported' ? undefined : Number(answer);
    },
    stop: () => child.stdin.end(),
  };
}
