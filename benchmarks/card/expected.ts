import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeMemory } from '../../bin/commands/plan.js';
import { addon } from '../../engine/device/addon.js';
import type { FloatType } from '../../engine/device/native_tensor.js';
import type { DType, Ops } from '../../engine/device/ops.js';
import type { LlamaConfig } from '../../engine/model/config.js';
import { cardsFor } from '../../engine/plan/cards.js';
import { planRows } from '../../recipes/plan/plan.js';
import type { PlanSettings } from '../../recipes/settings.js';
import { root } from '../paths.js';
import { configOf, LARGE_SHAPES, SHAPES } from '../shapes.js';
import { modelFlops } from './model_flops.js';
import { CALL, CARDS, DRIVER_LAUNCH, LEAST_LAUNCH, type Rates, SMALL_HEADS } from './rates.js';
import { type Call, decodingOf, type Step, secondsPerCall, stepOf } from './step.js';
import { type Arguments, type Sized, type Work, workOf } from './work.js';

// node dist/benchmarks/card/expected.js: what a card is expected to take for each kernel and for a step, from what the ops
// of a step move and compute, and from rates. It writes the tables of docs/cuda.md; nothing here is measured.

/** A step of the benchmark: 64 rows, as in the recipe, in micro-batches of 8. */
const ROWS = 8;
const LENGTH = 512;
const MICRO_BATCHES = 8;
const TOKENS = ROWS * LENGTH;

/** The least time a piece of work takes on a card, at peak rates. */
export function limit({ bytes, flops }: Work, card: Rates): number {
  return Math.max(bytes / card.peakBandwidth, flops / card.peakFlops);
}

/** The time that it is expected to take, for a model of that hidden size and heads. */
export function expected(
  work: Work,
  card: Rates,
  model: Pick<LlamaConfig, 'hiddenSize' | 'headDim'>,
): number {
  const { bytes, flops, unit, launches } = work;
  const moving = bytes / card.bandwidth;
  const heads = model.headDim < 128 ? SMALL_HEADS : 1;
  const computing = {
    memory: 0,
    gemm: flops / (card.peakFlops * card.gemm(model.hiddenSize)),
    attention_forward: flops / (card.attention.forward * heads),
    attention_backward: flops / (card.attention.backward * heads),
  }[unit];
  return Math.max(moving, computing, launches * LEAST_LAUNCH);
}

/** Seconds of a step of so many micro-batches. */
export function stepSeconds(step: Step, microBatches: number, card: Rates, config: LlamaConfig): number {
  const seconds = (calls: Call[]) => calls.reduce((sum, { work }) => sum + expected(work, card, config), 0);
  return seconds(step.first) + (microBatches - 1) * seconds(step.microBatch) + seconds(step.update);
}

// ---- tables ------------------------------------------------------------------------------------------------------

const MODELS = ['110m', '1.1b', '7b'] as const;
type Model = keyof typeof SHAPES | keyof typeof LARGE_SHAPES;

/** What gradients and moments of a model are kept in where its speed is asked for: 10 bytes a parameter put 7B on 80 GB. */
const statesOf = (name: Model): FloatType => (name === '7b' ? 'bfloat16' : 'float32');

const steps = new Map<Model, Step>();
function stepOfModel(name: Model): Step {
  const known =
    steps.get(name) ?? stepOf(configOf(name), { rows: ROWS, length: LENGTH, states: statesOf(name) });
  steps.set(name, known);
  return known;
}

function markdown(rows: readonly (readonly string[])[]): string {
  const [header, ...body] = rows;
  const widths = header.map((_, i) => Math.max(3, ...rows.map((row) => row[i].length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join(' | ')} |`;
  const rule = widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [line(header), `| ${rule.join(' | ')} |`, ...body.map(line)].join('\n');
}

const micros = (seconds: number) => {
  const value = seconds * 1e6;
  return value.toFixed(value < 10 ? 1 : 0);
};
const percent = (part: number, digits = 0) => `${(100 * part).toFixed(digits)} %`;

function ratesTable(): string {
  return markdown([
    [
      'card',
      'peak TFLOP/s',
      'peak TB/s',
      'TB/s reached',
      'products 110M / 1.1B / 7B',
      'attention TFLOP/s forward / backward',
    ],
    ...CARDS.map((card) => [
      card.name,
      (card.peakFlops / 1e12).toFixed(1),
      (card.peakBandwidth / 1e12).toFixed(2),
      (card.bandwidth / 1e12).toFixed(1),
      MODELS.map((name) => percent(card.gemm(configOf(name).hiddenSize))).join(' / '),
      `${card.attention.forward / 1e12} / ${card.attention.backward / 1e12}`,
    ]),
  ]);
}

/** A tensor of that size, for ops that no training step calls. */
function tensor(dtype: DType, size: number): Sized {
  const elementBytes = addon.dtypes[dtype].bytes;
  return { size, bytes: size * elementBytes, elementBytes, dtype };
}

/** Those, at the sizes of a 7B micro-batch. */
function otherWork(): [string, Work][] {
  const { hiddenSize: c } = configOf('7b');
  const n = TOKENS * c;
  const [f32, bf16, ids] = [tensor('float32', n), tensor('bfloat16', n), tensor('int32', TOKENS)];
  const shape: [number, number, number, number] = [1, 1, TOKENS, c];
  const at = <Op extends keyof Ops>(op: Op, args: Arguments<Op>): [string, Work] => [op, workOf(op, args)];
  return [
    at('scatter_rows', { table: bf16, x: bf16, ids, rows: TOKENS, dim: c, x_stride: c, table_rows: TOKENS }),
    at('add_columns', {
      y: bf16,
      x: tensor('bfloat16', c),
      rows: TOKENS,
      columns: c,
      y_stride: c,
      y_offset: 0,
      x_stride: 0,
    }),
    at('sum_columns', { y: tensor('float32', c), x: bf16, rows: TOKENS, columns: c }),
    at('axpby', { y: bf16, x: bf16, z: undefined, n, a: 1, b: 0 }),
    at('cast', { y: bf16, x: f32, n }),
    at('split_float', { high: bf16, low: tensor('int16', n), x: f32, n }),
    at('join_float', { x: f32, high: bf16, low: tensor('int16', n), n }),
    at('fill_normal', { y: f32, n, seed: 0, stream: 0, place: 0, std: 1 }),
    at('binary', { y: f32, a: f32, b: f32, op: 'add', shape, a_strides: shape, b_strides: shape }),
    at('unary', { y: f32, x: f32, op: 'exp', n }),
    at('reduce_axis', { y: tensor('float32', TOKENS), x: f32, op: 'sum', outer: TOKENS, n: c, inner: 1 }),
    at('copy_strided', {
      y: f32,
      x: f32,
      y_offset: 0,
      x_offset: 0,
      shape,
      y_strides: shape,
      x_strides: shape,
    }),
    at('softmax', { y: f32, x: f32, rows: TOKENS, dim: c }),
  ];
}

/** Each op once, at its largest of a 7B micro-batch or its update, and those that training does not call. */
export function kernelWork(): [string, Work][] {
  const { first, microBatch, update } = stepOfModel('7b');
  const largest = new Map<string, Work>();
  for (const { op, work } of [...first, ...microBatch, ...update]) {
    const before = largest.get(op);
    if (!before || work.bytes + work.flops > before.bytes + before.flops) largest.set(op, work);
  }
  return [...largest, ...otherWork()];
}

function kernelsTable(): string {
  const model = configOf('7b');
  return markdown([
    ['op (file)', 'launches', 'MB', 'GFLOP', ...CARDS.map(({ name }) => `${name} µs`)],
    ...kernelWork().map(([op, work]) => [
      op === work.file ? op : `${op} (${work.file})`,
      String(work.launches),
      (work.bytes / 1e6).toFixed(work.bytes < 1e7 ? 2 : 0),
      work.flops === 0 ? '' : (work.flops / 1e9).toFixed(1),
      ...CARDS.map((card) => `${micros(limit(work, card))} / ${micros(expected(work, card, model))}`),
    ]),
  ]);
}

/** What a run can have of a card of that name. */
function roomOf({ gigabytes }: Rates): number {
  return cardsFor('cuda').find((card) => card.gigabytes === gigabytes)!.room;
}

async function modelsTable(): Promise<string> {
  const rows: string[][] = [];
  for (const name of MODELS) {
    const config = configOf(name);
    const needed = (await planRows(settingsOf(name, false, statesOf(name)))).memory.total;
    const step = stepOfModel(name);
    for (const card of CARDS) {
      const seconds = stepSeconds(step, MICRO_BATCHES, card, config);
      const perSecond = (MICRO_BATCHES * TOKENS) / seconds;
      rows.push([
        name,
        card.name,
        (seconds * 1e3).toFixed(0),
        Math.round(perSecond).toLocaleString('en-US'),
        percent((modelFlops(config, LENGTH) * perSecond) / card.peakFlops),
        needed <= roomOf(card) ? 'yes' : 'no',
        ...shares(step, card, config),
      ]);
    }
  }
  return markdown([
    ['model', 'card', 'ms a step', 'tokens/s', 'MFU', 'fits', ...GROUPS.map(([title]) => title)],
    ...rows,
  ]);
}

/** Where the time goes. */
const GROUPS: [title: string, (call: Call) => boolean][] = [
  ['products', ({ op }) => op === 'gemm'],
  ['attention', ({ work }) => work.file === 'attention'],
  ['optimizer', ({ op }) => ['adamw', 'sum_squares', 'clip_scale'].includes(op)],
  ['the rest', () => true],
];

function shares(step: Step, card: Rates, config: LlamaConfig): string[] {
  const sums = GROUPS.map(() => 0);
  const add = (calls: Call[], times: number) => {
    for (const call of calls)
      sums[GROUPS.findIndex(([, isOf]) => isOf(call))] += times * expected(call.work, card, config);
  };
  add(step.first, 1);
  add(step.microBatch, MICRO_BATCHES - 1);
  add(step.update, 1);
  const total = sums.reduce((a, b) => a + b);
  return sums.map((sum) => percent(sum / total));
}

function launchesTable(): string {
  const { first, microBatch, update } = stepOfModel('1.1b');
  const parts = [first, microBatch, update];
  const ops = [...new Set(parts.flat().map(({ op }) => op))];
  const sum = (calls: Call[], op?: string) => {
    const of = calls.filter((call) => op === undefined || call.op === op);
    return [of.length, of.reduce((all, { work }) => all + work.launches, 0)];
  };
  const row = (title: string, op?: string) => [
    title,
    ...parts.flatMap((calls) => sum(calls, op)).map(String),
  ];
  return markdown([
    [
      'op',
      ...['first micro-batch', 'each other', 'update'].flatMap((part) => [`calls, ${part}`, 'launches']),
    ],
    ...ops.map((op) => row(op, op)),
    row('all'),
  ]);
}

const PLANNED = ['1.1b', '7b', '8b', '13b'] as const;

function settingsOf(name: Model, gradientCheckpointing: boolean, states: FloatType): PlanSettings {
  return {
    model_config: { ...SHAPES, ...LARGE_SHAPES }[name],
    device: 'cuda',
    bf16: true,
    gradient_checkpointing: gradientCheckpointing,
    gradient_dtype: states,
    optimizer_state_dtype: states,
    per_device_train_batch_size: ROWS,
    gradient_accumulation_steps: MICRO_BATCHES,
    model_max_length: LENGTH,
  };
}

/** What the command says of 7B. */
async function planText(): Promise<string> {
  const lines = describeMemory(await planRows(settingsOf('7b', true, 'float32')));
  return ['```', ...lines, '```'].join('\n');
}

async function plansTable(): Promise<string> {
  const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1);
  const rows: string[][] = [];
  for (const name of PLANNED)
    for (const [gradientCheckpointing, states, offload] of [
      [false, 'float32', 'none'],
      [true, 'float32', 'none'],
      [false, 'bfloat16', 'none'],
      [true, 'bfloat16', 'none'],
      [true, 'float32', 'cpu'],
      [true, 'bfloat16', 'cpu'],
    ] as const) {
      const { memory, lora, cards } = await planRows({
        ...settingsOf(name, gradientCheckpointing, states),
        optimizer_offload: offload,
      });
      const smallest = (total: number) => cards.find(({ room }) => total <= room)?.gigabytes ?? 'none';
      rows.push([
        name,
        gradientCheckpointing ? 'yes' : 'no',
        states,
        ...[
          memory.weights + memory.weight_remainders,
          memory.gradients,
          memory.moments,
          memory.arena,
          memory.total,
          memory.offloaded,
        ].map(gib),
        `${smallest(memory.total)}`,
        `${gib(lora!.total)} (${smallest(lora!.total)})`,
      ]);
    }
  return markdown([
    [
      [
        'model',
        'checkpointing',
        'states',
        'weights',
        'gradients',
        'moments',
        'arena',
        'all',
        'in host memory',
        'least card, GB',
      ],
      ['LoRA (least card)'],
    ].flat(),
    ...rows,
  ]);
}

/** Tokens of a text that is gone on with, its prompt included. */
const DECODED = 256;

function decodingTable(): string {
  const rows: string[][] = [];
  for (const name of MODELS)
    for (const texts of [1, 16]) {
      const config = configOf(name);
      const calls = decodingOf(config, texts, DECODED);
      const host = calls.length * (CALL + DRIVER_LAUNCH);
      const card = calls.reduce((sum, { work }) => sum + expected(work, CARDS[0], config), 0);
      rows.push([
        name,
        String(texts),
        String(calls.length),
        ...[host, card].map((seconds) => (seconds * 1e3).toFixed(2)),
        (Math.max(host, card) / card).toFixed(2),
      ]);
    }
  return markdown([
    ['model', 'texts', 'calls a token', 'host, calling them: ms', `${CARDS[0].name}: ms`, 'gain'],
    ...rows,
  ]);
}

/** The tables of docs/cuda.md by name. */
export const TABLES: Record<string, () => string | Promise<string>> = {
  plan: planText,
  plans: plansTable,
  rates: ratesTable,
  kernels: kernelsTable,
  models: modelsTable,
  launches: launchesTable,
  decoding: decodingTable,
};

export const DOCUMENT = join(root, 'docs/cuda.md');

/** The document with its tables made anew. @throws Error when it lacks one */
export async function withTables(text: string): Promise<string> {
  let document = text;
  for (const [name, table] of Object.entries(TABLES)) {
    const [start, end] = [`<!-- table: ${name} -->\n`, '\n<!-- end -->'];
    const from = document.indexOf(start);
    const to = document.indexOf(end, from);
    if (from < 0 || to < 0) throw new Error(`docs/cuda.md has no table "${name}"`);
    document = `${document.slice(0, from + start.length)}\n${await table()}\n${document.slice(to)}`;
  }
  return document;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(DOCUMENT, await withTables(readFileSync(DOCUMENT, 'utf8')));
  for (const name of MODELS) {
    const seconds = secondsPerCall(configOf(name), { rows: ROWS, length: LENGTH });
    console.log(
      `${name}: a call of an op takes ${(seconds * 1e6).toFixed(2)} µs of this processor, without a driver`,
    );
  }
}
