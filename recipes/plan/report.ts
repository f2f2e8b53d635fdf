import { type Dataset, measureRun } from '../../data/index.js';
import { freeDisk } from '../../engine/checkpoint/directory.js';
import { addon } from '../../engine/device/addon.js';
import { deviceMemory } from '../../engine/device/memory.js';
import { layoutOf } from '../../engine/model/layout.js';
import { causalLmSpecs } from '../../engine/model/specs.js';
import type { BatchSize } from '../../engine/plan/batch_size.js';
import { type RunPlan, residentAllowance } from '../../engine/plan/plan.js';
import { type PreparedRun, scheduleOf } from '../prepare.js';
import type { Measurement } from './measure.js';
import { diskUse, stepsLookedAt } from './needs.js';

/** What `tstrain plan --json` prints. Bytes and seconds; `null` where there is nothing to say. */
export interface PlanReport {
  model: { parameters: number; precision: 'fp32' | 'bf16'; gradient_checkpointing: boolean };
  device: string;
  threads: number;
  memory: {
    weights: number;
    /** What bfloat16 weights leave of their float32 values. */
    weight_remainders: number;
    gradients: number;
    moments: number;
    activations: number;
    workspace: number;
    tables_and_batches: number;
    /** Activations and workspace: the high-water mark of the arena. */
    arena: number;
    total: number;
  };
  machine: {
    memory_total: number;
    memory_available: number;
    fits: boolean;
    disk_free: number;
  };
  /** The micro-batches that take the most of the arena. */
  largest_micro_batch: BatchReport;
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

/** Puts a plan and what is around it together. */
export async function makeReport(prepared: PreparedRun, plan: RunPlan): Promise<PlanReport> {
  const { config, schedule, training, dataset, evalDataset } = prepared;
  const steps = schedule.totalSteps;
  const lookedAt = stepsLookedAt(prepared);
  const seen = measureRun(schedule.steps(0, lookedAt), dataset);
  const inAll = (n: number) => Math.round(n * (steps / lookedAt));
  const tokens = inAll(seen.tokens);
  const { memory } = plan;
  const machine = deviceMemory(prepared.device);
  return {
    model: {
      parameters: layoutOf(causalLmSpecs(prepared.model)).parameters,
      precision: prepared.precision,
      gradient_checkpointing: prepared.gradientCheckpointing,
    },
    device: prepared.device,
    threads: addon.info().threads,
    memory: {
      weights: memory.weights,
      weight_remainders: memory.remainders,
      gradients: memory.gradients,
      moments: memory.moments,
      activations: memory.activations,
      workspace: memory.workspace,
      tables_and_batches: memory.tablesAndBatches,
      arena: memory.arena,
      total: memory.total,
    },
    machine: {
      memory_total: machine.total,
      memory_available: machine.available,
      fits: memory.total <= machine.available,
      disk_free: freeDisk(config.output_dir),
    },
    largest_micro_batch: batchReport(plan.largest),
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
