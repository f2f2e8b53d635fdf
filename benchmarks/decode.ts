import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { Command } from 'commander';
import { saveHfWeights } from '../engine/checkpoint/hf_model.js';
import { addon, defaultDevice } from '../engine/device/addon.js';
import { defaultThreads } from '../engine/machine/threads.js';
import { Parameters, type Precision } from '../engine/model/parameters.js';
import type { DecodeRound } from './decode_runner.js';
import { scratch } from './paths.js';
import { circumstances, ROUNDS_TO_STORE, store } from './results.js';
import { configOf, type ShapeName } from './shapes.js';
import { median, medianRatio } from './statistics.js';

// node dist/benchmarks/decode.js: tokens/s of one text and of sixteen at once, and the memory of a model that only
// computes; each round in processes of their own, in turns.

const PROMPT_TOKENS = 64;
const NEW_TOKENS = 64;
/** Sixteen texts at once, over one. */
const BAR = 4;

const { shape, precisions, rounds } = new Command('decode')
  .option('--shape <name>', '260k, 15m or 110m', '110m')
  .option('--precisions <list>', 'of fp32, bf16', (text) => text.split(','), ['fp32', 'bf16'])
  .option('--rounds <n>', 'rounds of each', Number, 5)
  .parse()
  .opts<{ shape: ShapeName; precisions: Precision[]; rounds: number }>();

const threads = defaultThreads();
const measuredIn = circumstances(threads, rounds);
const { instructionSet, bf16Gemm, onednn } = addon.info();
console.log(
  `${shape}, ${instructionSet}, bf16 by ${bf16Gemm}, oneDNN ${onednn || 'none'}; ${threads} threads, ${rounds} rounds; ` +
    `prompts of ${PROMPT_TOKENS} tokens, ${NEW_TOKENS} new ones\n` +
    '      texts  tokens/s  bytes a parameter  peak MiB',
);

const model = join(scratch, `decode-${shape}`);
mkdirSync(model, { recursive: true });
const parameters = new Parameters(configOf(shape), defaultDevice(), 'fp32');
parameters.initialize(1);
await saveHfWeights(model, configOf(shape), parameters);
parameters.dispose();

const results: Record<string, DecodeRound[]> = {};
for (const precision of precisions) {
  const [one, many] = [1, 16].map((texts) => ({ texts, rounds: [] as DecodeRound[] }));
  // Each round the other side goes first.
  for (let r = 0; r < rounds; r++)
    for (const side of r % 2 === 0 ? [one, many] : [many, one]) side.rounds.push(run(precision, side.texts));
  for (const side of [one, many]) {
    results[`${precision}/${side.texts}`] = side.rounds;
    const of = (key: keyof DecodeRound) => median(side.rounds.map((round) => round[key]));
    console.log(
      precision.padEnd(6) +
        String(side.texts).padStart(5) +
        of('tokens_per_second').toFixed(1).padStart(10) +
        of('bytes_per_parameter').toFixed(2).padStart(19) +
        of('peak_mib').toFixed(0).padStart(10),
    );
  }
  const rates = (side: typeof one) => side.rounds.map(({ tokens_per_second }) => tokens_per_second);
  const ratio = medianRatio(rates(many), rates(one));
  console.log(
    `${precision}: 16 at once ${ratio.toFixed(2)} × one; ≥ ${BAR}: ${ratio >= BAR ? 'met' : 'NOT MET'}`,
  );
}
if (rounds >= ROUNDS_TO_STORE) {
  const file = store(
    {
      ...measuredIn,
      versions: { onednn, node: process.versions.node },
      shape,
      prompt_tokens: PROMPT_TOKENS,
      new_tokens: NEW_TOKENS,
      bar: BAR,
      measured: results,
    },
    { suffix: '-decode' },
  );
  console.log(`stored in ${relative(process.cwd(), file)}`);
}

function run(precision: Precision, texts: number): DecodeRound {
  const runner = join(import.meta.dirname, 'decode_runner.js');
  const args = [runner, model, precision, threads, texts, PROMPT_TOKENS, NEW_TOKENS].map(String);
  const { status, stdout } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`decode_runner ended with status ${status}`);
  return JSON.parse(stdout);
}
