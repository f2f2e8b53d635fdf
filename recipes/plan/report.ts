import { type Dataset, measureRun } from '../../data/index.js';
import { freeDisk } from '../../engine/checkpoint/directory.js';
import { addon, type DeviceName } from '../../engine/device/addon.js';
import { deviceMemory } from '../../engine/device/memory.js';
import type { LlamaConfig } from '../../engine/model/config.js';
import { layoutOf, type ParameterGroup } from '../../engine/model/layout.js';
import { loraSpecs } from '../../engine/model/lora.js';
import { causalLmSpecs } from '../../engine/model/specs.js';
import type { BatchSize } from '../../engine/plan/batch_size.js';
import { cardsFor } from '../../engine/plan/cards.js';
import { type RunPlan, residentAllowance } from '../../engine/plan/plan.js';
import { arithmeticOf, type PreparedRun, scheduleOf } from '../prepare.js';
import type { PlanConfig } from '../settings.js';
import type { Measurement } from './measure.js';
import { diskUse, stepsLookedAt } from './needs.js';
import { type Saving, savings, type TotalOf } from './savings.js';

/** What `tstrain plan --json` prints without data. Bytes; `null` where there is nothing to say. */
export interface MemoryReport {
  model: { parameters: number; precision: 'fp32' | 'bf16'; gradient_checkpointing: boolean };
  device: string;
  threads: number;
  memory: {
    weights: number;
    /** What bfloat16 weights leave of their float32 values. */
    weight_remainders: number;
    gradients: number;
    moments: number;
    /** Of a card: what it leaves in the machine's memory. Not in `total`. */
    offloaded: number;
    activations: number;
    workspace: number;
    tables_and_batches: number;
    /** Activations and workspace: the high-water mark of the arena. */
    arena: number;
    total: number;
  };
  /** Of the device; null where it is not there. */
  machine: {
    memory_total: number | null;
    memory_available: number | null;
    fits: boolean | null;
    /** Where it does not fit: settings that take less. */
    savings: Saving[] | null;
  };
  /** The micro-batch that takes the most of the arena. */
  largest_micro_batch: BatchReport;
  /** Of a plan for a card: sizes of card, what of each a run can have, and settings with which it fits where it does not. */
  cards: { gigabytes: number; room: number; fits: boolean; saving: Saving | null }[];
  /** Likewise: the same run with adapters of that rank on all linear layers trained, which is no setting so far. */
  lora: { rank: number; total: number } | null;
}

/** What it prints with data. */
export interface PlanReport extends MemoryReport {
  machine: MemoryReport['machine'] & { disk_free: number };
  largest_eval_batch: BatchReport | null;
  schedule: {
    epochs: number;
    steps: number;
    /** The first steps, whose micro-batches were looked at: totals are these times the rest, and the largest is theirs. */
    steps_looked_at: number;
    warmup_steps: number;
    micro_batches: number;
    packing: boolean;
    /** Steps with `packing: false`, as in the recipe. */
    steps_unpacked: number;
    /** Tokens in packed rows over the room in them, in the first epoch. */
    fill_rate: number | null;
  };
  /** Over the whole run, and of an average step; forward and backward, evaluation not counted. */
  tokens: { total: number; labelled: number; per_step: number };
  flops: { total: number; per_step: number };
  disk: { checkpoint: number; final_model: number; most: number };
  data: DataReport;
  eval_data: DataReport | null;
  /** With `--measure`. */
  measured: MeasuredReport | null;
}

export interface MeasuredReport {
  arena: number;
  arena_as_planned: boolean;
  /** Resident memory before the model is loaded, and at its fullest from then on. */
  resident_before: number;
  resident_peak: number;
  /** What may lie between the two: the plan, 5 % more, and 64 MiB for libraries and JavaScript. */
  resident_allowed: number;
  resident_as_allowed: boolean;
  micro_batches: number;
  tokens_per_second: number;
  update_seconds: number;
  estimated_seconds: number;
}

interface BatchReport {
  tokens: number;
  label_tokens: number;
  documents: number;
  longest_document: number;
}

interface DataReport {
  path: string;
  rows: number;
  examples: number;
  tokens: number;
  label_tokens: number;
  longest: number;
  /** By row number, from 0. */
  truncated: { row: number; by: number }[];
  unlabelled: number[];
  unlabelled_kept: boolean;
  empty_outputs: number[];
  /** Keys that are not read, and in how many rows each holds something. */
  unread_keys: Record<string, number>;
  duplicates: { row: number; of: number }[];
}

/** Of a LoRA that a plan for a card is held against: the rank that most runs use, on all linear layers. */
const LORA = {
  r: 16,
  alpha: 32,
  targetModules: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
};

/** What a report says of memory. `planned`: by the specifications of what is trained; `totalOf`: by settings. */
export async function memoryReport(
  config: PlanConfig,
  model: LlamaConfig,
  planned: (specs?: readonly ParameterGroup[]) => RunPlan,
  totalOf: TotalOf,
): Promise<{ report: MemoryReport; plan: RunPlan }> {
  const { device, precision, gradientCheckpointing } = arithmeticOf(config);
  const plan = planned();
  const { memory } = plan;
  const machine = addon.devices().includes(device) ? deviceMemory(device) : undefined;
  const specs = causalLmSpecs(model);
  const known = new Map<string, number>();
  const remembered: TotalOf = async (changes) => {
    const key = JSON.stringify(changes);
    if (!known.has(key)) known.set(key, await totalOf(changes));
    return known.get(key)!;
  };
  const fits = machine ? memory.total <= machine.available : null;
  const cards = await cardsReport(config, device, memory.total, remembered);
  const report = {
    model: {
      parameters: layoutOf(specs).parameters,
      precision,
      gradient_checkpointing: gradientCheckpointing,
    },
    device,
    threads: addon.info().threads,
    memory: {
      weights: memory.weights,
      weight_remainders: memory.remainders,
      gradients: memory.gradients,
      moments: memory.moments,
      offloaded: memory.offloaded,
      activations: memory.activations,
      workspace: memory.workspace,
      tables_and_batches: memory.tablesAndBatches,
      arena: memory.arena,
      total: memory.total,
    },
    machine: {
      memory_total: machine?.total ?? null,
      memory_available: machine?.available ?? null,
      fits,
      savings: fits === false ? await savings(config, machine!.available, remembered) : null,
    },
    largest_micro_batch: batchReport(plan.largest),
    cards,
    lora: cards.length > 0 ? { rank: LORA.r, total: planned(loraSpecs(specs, LORA)).memory.total } : null,
  };
  return { report, plan };
}

async function cardsReport(
  config: PlanConfig,
  device: DeviceName,
  total: number,
  totalOf: TotalOf,
): Promise<MemoryReport['cards']> {
  const cards: MemoryReport['cards'] = [];
  for (const { gigabytes, room } of cardsFor(device)) {
    const fits = total <= room;
    const found = fits ? [] : await savings(config, room, totalOf);
    cards.push({ gigabytes, room, fits, saving: found.find((saving) => saving.total <= room) ?? null });
  }
  return cards;
}

/** Puts a plan and what is around it together. */
export async function makeReport(
  prepared: PreparedRun,
  memory: MemoryReport,
  plan: RunPlan,
): Promise<PlanReport> {
  const { config, schedule, training, dataset, evalDataset } = prepared;
  const steps = schedule.totalSteps;
  const lookedAt = stepsLookedAt(prepared);
  const seen = measureRun(schedule.steps(0, lookedAt), dataset);
  const inAll = (n: number) => Math.round(n * (steps / lookedAt));
  const tokens = inAll(seen.tokens);
  return {
    ...memory,
    machine: { ...memory.machine, disk_free: freeDisk(config.output_dir) },
    largest_eval_batch: plan.largestEvaluation ? batchReport(plan.largestEvaluation) : null,
    schedule: {
      epochs: schedule.epochs,
      steps,
      steps_looked_at: lookedAt,
      warmup_steps: training.schedule.warmupSteps,
      micro_batches: inAll(seen.microBatches),
      packing: config.packing,
      steps_unpacked: config.packing
        ? (await scheduleOf({ ...config, packing: false }, dataset.lengths)).totalSteps
        : steps,
      fill_rate: config.packing
        ? dataset.report.tokens / (schedule.epoch(0).rows * config.model_max_length)
        : null,
    },
    tokens: { total: tokens, labelled: inAll(seen.labelTokens), per_step: seen.tokens / lookedAt },
    flops: { total: plan.flops, per_step: plan.flops / steps },
    disk: diskReport(prepared),
    data: dataReport(dataset),
    eval_data: evalDataset ? dataReport(evalDataset) : null,
    measured: null,
  };
}

/** What was seen of a run beside what was planned. */
export function compare(measured: Measurement, { memory }: RunPlan): MeasuredReport {
  const allowed = residentAllowance(memory.total);
  return {
    arena: measured.arena,
    arena_as_planned: measured.arena === memory.arena,
    resident_before: measured.residentBefore,
    resident_peak: measured.residentPeak,
    resident_allowed: allowed,
    resident_as_allowed: measured.residentPeak - measured.residentBefore <= allowed,
    micro_batches: measured.microBatches,
    tokens_per_second: measured.tokensPerSecond,
    update_seconds: measured.updateSeconds,
    estimated_seconds: measured.estimatedSeconds,
  };
}

function batchReport({ tokens, labelTokens, lengths, longest }: BatchSize): BatchReport {
  return { tokens, label_tokens: labelTokens, documents: lengths.length, longest_document: longest };
}

function dataReport({ report }: Dataset): DataReport {
  return {
    path: report.path,
    rows: report.rowsRead,
    examples: report.examples,
    tokens: report.tokens,
    label_tokens: report.labelTokens,
    longest: report.longest,
    truncated: report.truncated,
    unlabelled: report.unlabelled,
    unlabelled_kept: report.unlabelledKept,
    empty_outputs: report.emptyOutputs,
    unread_keys: Object.fromEntries(report.unreadKeys),
    duplicates: report.duplicates,
  };
}

function diskReport(prepared: PreparedRun): PlanReport['disk'] {
  const { checkpoint, finalModel, most } = diskUse(prepared);
  return { checkpoint, final_model: finalModel, most };
}
