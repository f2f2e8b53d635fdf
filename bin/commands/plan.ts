import { basename, dirname } from 'node:path';
import type { Writable } from 'node:stream';
import { Command } from 'commander';
import { deviceMemory } from '../../engine/device/memory.js';
import { HELD_BACK } from '../../engine/plan/cards.js';
import { plainLine, UserError } from '../../errors.js';
import { expandHome } from '../../recipes/home.js';
import { tooLarge } from '../../recipes/plan/needs.js';
import { hasData, plan, planRows } from '../../recipes/plan/plan.js';
import type { MeasuredReport, MemoryReport, PlanReport } from '../../recipes/plan/report.js';
import { settingsText } from '../../recipes/plan/savings.js';
import type { Key } from '../../recipes/settings.js';
import { count, gib, plural } from '../../recipes/words.js';
import { loadPlanConfig } from '../config.js';
import { duration } from '../progress.js';
import { setOption } from '../set_option.js';

interface Options {
  config?: string;
  model?: string;
  device?: string;
  batch?: string;
  length?: string;
  set: string[];
  json?: boolean;
  measure?: boolean;
}

/** `tstrain plan`: what a run takes and what it will do, before it starts. */
export function planCommand({ stdout, stderr }: { stdout: Writable; stderr: Writable } = process): Command {
  return new Command('plan')
    .description(
      'what a run takes of memory, arithmetic, time and disk, and what it makes of its data. Without data_path: the memory ' +
        'of full rows, from the config of a model alone',
    )
    .option('--config <file>', "the run's YAML file", expandHome)
    .option('--model <path>', 'model_name_or_path: a Hugging Face directory, or its config.json', expandHome)
    .option('--device <name>', 'device: also one that is not there, such as cuda')
    .option('--batch <n>', 'per_device_train_batch_size')
    .option('--length <n>', 'model_max_length')
    .addOption(setOption())
    .option('--measure', 'also load the model, train a few micro-batches, and compare')
    .option('--json', 'one JSON object on standard output')
    .action((options: Options, command: Command) => {
      if (options.config === undefined && options.model === undefined)
        command.error('error: plan takes --config FILE, a run, or --model DIR, full rows for a model');
      return run(options, stdout, stderr);
    });
}

/** The options that stand for keys, as overrides. */
function overridesOf({ model, device, batch, length, set }: Options): string[] {
  const directory = model !== undefined && basename(model) === 'config.json' ? dirname(model) : model;
  const named: [Key, string | undefined][] = [
    ['model_name_or_path', directory],
    ['device', device],
    ['per_device_train_batch_size', batch],
    ['model_max_length', length],
  ];
  return [...set, ...named.flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`]))];
}

async function run(options: Options, stdout: Writable, stderr: Writable): Promise<void> {
  const config = loadPlanConfig(options.config, overridesOf(options));
  const screen = options.json ? stderr : stdout;
  const print = (lines: string[]) => {
    if (!options.json) stdout.write(`${lines.join('\n')}\n`);
  };
  if (!hasData(config)) {
    if (options.measure) throw new UserError('--measure needs data_path: it trains on the data');
    const report = await planRows(config);
    print(describeMemory(report));
    warnOf(report, stderr);
    if (options.json) stdout.write(`${JSON.stringify(report)}\n`);
    return;
  }
  const { report, measure } = await plan(config, {
    onMessage: (line) => void screen.write(`${plainLine(line)}\n`),
  });
  print(describe(report));
  warnOf(report, stderr);

  if (options.measure) {
    screen.write('measuring on the largest micro-batches and the first ones …\n');
    const measured = await measure();
    report.measured = measured;
    print(describeMeasured(measured, report.memory));
    if (!measured.arena_as_planned || !measured.resident_as_allowed) process.exitCode = 1;
  }
  if (options.json) stdout.write(`${JSON.stringify(report)}\n`);
}

function warnOf({ machine, memory, device }: MemoryReport, stderr: Writable): void {
  if (machine.savings)
    stderr.write(
      `warning: ${tooLarge('this run takes', memory.total, deviceMemory(device), machine.savings)}\n`,
    );
}

const label = (subject: string, text: string) => subject.padEnd(14) + text;

/** The plan for people: a line a subject. */
export function describe(report: PlanReport): string[] {
  const { machine, schedule, tokens, flops, disk } = report;
  const steps =
    schedule.steps === schedule.steps_unpacked
      ? ''
      : ` (${count(schedule.steps_unpacked)} with packing: false, as in the recipe)`;
  return [
    modelLine(report),
    label('steps', `${count(schedule.steps)}${steps}, ${count(schedule.warmup_steps)} of them warm-up`),
    label(
      '',
      `${plural(schedule.epochs, 'epoch')}, ${plural(schedule.micro_batches, 'micro-batch', 'micro-batches')}`,
    ),
    ...(schedule.steps_looked_at === schedule.steps
      ? []
      : [
          label(
            '',
            `figures are those of the first ${plural(schedule.steps_looked_at, 'step')}, totals these times the rest`,
          ),
        ]),
    ...(schedule.fill_rate === null
      ? []
      : [label('packing', `${(100 * schedule.fill_rate).toFixed(1)} % of the rows is filled`)]),
    label(
      'tokens',
      `${count(tokens.total)}, ${count(tokens.labelled)} with a label; ${count(Math.round(tokens.per_step))} a step`,
    ),
    label('FLOPs', `${flops.total.toExponential(2)}; ${flops.per_step.toExponential(2)} a step`),
    label('largest', batchText(report.largest_micro_batch)),
    ...(report.largest_eval_batch ? [label('  evaluation', batchText(report.largest_eval_batch))] : []),
    ...memoryLines(report),
    label(
      'disk',
      `${mib(disk.checkpoint)} a checkpoint, ${mib(disk.final_model)} the final model, ${mib(disk.most)} at most; ` +
        `${mib(machine.disk_free)} free`,
    ),
  ];
}

/** The same without data. */
export function describeMemory(report: MemoryReport): string[] {
  return [
    modelLine(report),
    label('micro-batch', batchText(report.largest_micro_batch)),
    ...memoryLines(report),
  ];
}

function modelLine({ model, device, threads, cards }: MemoryReport): string {
  return label(
    'model',
    `${count(model.parameters)} parameters in ${model.precision}` +
      `${model.gradient_checkpointing ? ', gradient checkpointing' : ''}, on ${device}` +
      // What a card takes does not depend on threads.
      `${cards.length > 0 ? '' : `, ${plural(threads, 'thread')}`}`,
  );
}

function batchText({ documents, ...size }: MemoryReport['largest_micro_batch']): string {
  return `${plural(size.tokens, 'token')}, ${count(size.label_tokens)} with a label, in ${plural(documents, 'document')}`;
}

function memoryLines({ memory, machine, cards, lora }: MemoryReport): string[] {
  const part = (name: string, bytes: number) => `  ${name.padEnd(28)}${mib(bytes).padStart(14)}`;
  const { memory_total: all, memory_available: available } = machine;
  return [
    'memory',
    part('weights', memory.weights),
    ...(memory.weight_remainders > 0 ? [part('what bf16 leaves of them', memory.weight_remainders)] : []),
    part('gradients', memory.gradients),
    part('moments', memory.moments),
    part('activations', memory.activations),
    part('workspace', memory.workspace),
    part('RoPE tables and batches', memory.tables_and_batches),
    part('all', memory.total),
    ...(memory.offloaded > 0 ? [part("in the machine's memory", memory.offloaded)] : []),
    ...(lora ? [part(`with LoRA of rank ${lora.rank} alone`, lora.total)] : []),
    ...(all === null || available === null ? [] : [part(`available (of ${mib(all)})`, available)]),
    ...(cards.length === 0
      ? []
      : [`cards, ${gib(HELD_BACK)} of each left to driver, libraries and rounding`, ...cards.map(cardLine)]),
  ];
}

function cardLine({ gigabytes, room, fits, saving }: MemoryReport['cards'][number]): string {
  const answer = fits
    ? 'fits'
    : saving
      ? `with ${settingsText(saving.settings)} (${gib(saving.total)})`
      : 'does not fit with any settings';
  return `  ${`${gigabytes} GB`.padEnd(8)}${gib(room).padStart(10)}  ${answer}`;
}

/** What was measured for people, each figure beside the planned one. */
export function describeMeasured(measured: MeasuredReport, memory: PlanReport['memory']): string[] {
  const taken = measured.resident_peak - measured.resident_before;
  return [
    label(
      'arena',
      measured.arena_as_planned
        ? `${count(measured.arena)} bytes at its fullest, as planned`
        : `${count(measured.arena)} bytes at its fullest, but ${count(memory.arena)} were planned: this is a fault of ` +
            'tstrain; please report it with the config',
    ),
    label(
      'resident',
      `${mib(taken)} more than the ${mib(measured.resident_before)} before the model was loaded; planned ` +
        `${mib(memory.total)}, ${measured.resident_as_allowed ? 'within' : 'BEYOND'} the ${mib(measured.resident_allowed)} ` +
        'that this allows (5 % and 64 MiB more)',
    ),
    label(
      'speed',
      `${count(Math.round(measured.tokens_per_second))} tokens/s over ${plural(measured.micro_batches, 'micro-batch', 'micro-batches')}, ` +
        `${measured.update_seconds.toFixed(3)} s an update`,
    ),
    label(
      'time',
      `about ${duration(1000 * measured.estimated_seconds)}, without evaluations and checkpoints`,
    ),
  ];
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toLocaleString('en-US', { minimumFractionDigits: 1, maximumFractionDigits: 1 })} MiB`;
}
