import type { Writable } from 'node:stream';
import { Command } from 'commander';
import { deviceMemory } from '../../engine/device/memory.js';
import { plainLine } from '../../errors.js';
import { expandHome } from '../../recipes/home.js';
import { tooLarge } from '../../recipes/plan/needs.js';
import { plan } from '../../recipes/plan/plan.js';
import type { MeasuredReport, PlanReport } from '../../recipes/plan/report.js';
import { count, plural } from '../../recipes/words.js';
import { loadConfig } from '../config.js';
import { duration } from '../progress.js';
import { setOption } from '../set_option.js';

interface Options {
  config: string;
  set: string[];
  json?: boolean;
  measure?: boolean;
}

/** `tstrain plan`: what a run takes and what it will do, before it starts. */
export function planCommand({ stdout, stderr }: { stdout: Writable; stderr: Writable } = process): Command {
  return new Command('plan')
    .description('what a run takes of memory, arithmetic, time and disk, and what it makes of its data')
    .requiredOption('--config <file>', "the run's YAML file", expandHome)
    .addOption(setOption())
    .option('--measure', 'also load the model, train a few micro-batches, and compare')
    .option('--json', 'one JSON object on standard output')
    .action((options: Options) => run(options, stdout, stderr));
}

async function run(options: Options, stdout: Writable, stderr: Writable): Promise<void> {
  const config = loadConfig(options.config, options.set);
  const screen = options.json ? stderr : stdout;
  const { report, measure } = await plan(config, {
    onMessage: (line) => void screen.write(`${plainLine(line)}\n`),
  });
  if (!options.json) stdout.write(`${describe(report).join('\n')}\n`);
  if (!report.machine.fits)
    stderr.write(`warning: ${tooLarge(report.memory, deviceMemory(report.device), config)}\n`);

  if (options.measure) {
    screen.write('measuring on the largest micro-batches and the first ones …\n');
    const measured = await measure();
    report.measured = measured;
    if (!options.json) stdout.write(`${describeMeasured(measured, report.memory).join('\n')}\n`);
    if (!measured.arena_as_planned || !measured.resident_as_allowed) process.exitCode = 1;
  }
  if (options.json) stdout.write(`${JSON.stringify(report)}\n`);
}

const label = (subject: string, text: string) => subject.padEnd(14) + text;

/** The plan for people: a line a subject. */
export function describe(report: PlanReport): string[] {
  const { model, memory, machine, schedule, tokens, flops, disk } = report;
  const part = (name: string, bytes: number) => `  ${name.padEnd(28)}${mib(bytes).padStart(14)}`;
  const batch = ({ documents, ...size }: PlanReport['largest_micro_batch']) =>
    `${plural(size.tokens, 'token')}, ${count(size.label_tokens)} with a label, in ${plural(documents, 'document')}`;
  const steps =
    schedule.steps === schedule.steps_unpacked
      ? ''
      : ` (${count(schedule.steps_unpacked)} with packing: false, as in the recipe)`;
  return [
    label(
      'model',
      `${count(model.parameters)} parameters in ${model.precision}` +
        `${model.gradient_checkpointing ? ', gradient checkpointing' : ''}, on ${plural(report.threads, 'thread')}`,
    ),
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
    label('largest', batch(report.largest_micro_batch)),
    ...(report.largest_eval_batch ? [label('  evaluation', batch(report.largest_eval_batch))] : []),
    'memory',
    part('weights', memory.weights),
    ...(memory.weight_remainders > 0 ? [part('what bf16 leaves of them', memory.weight_remainders)] : []),
    part('gradients', memory.gradients),
    part('moments', memory.moments),
    part('activations', memory.activations),
    part('workspace', memory.workspace),
    part('RoPE tables and batches', memory.tables_and_batches),
    part('all', memory.total),
    part(`available (of ${mib(machine.memory_total)})`, machine.memory_available),
    label(
      'disk',
      `${mib(disk.checkpoint)} a checkpoint, ${mib(disk.final_model)} the final model, ${mib(disk.most)} at most; ` +
        `${mib(machine.disk_free)} free`,
    ),
  ];
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
