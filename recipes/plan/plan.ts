import { addon } from '../../engine/device/addon.js';
import { defaultThreads } from '../../engine/machine/threads.js';
import { UserError } from '../../errors.js';
import { checkPlanSettings } from '../check_settings.js';
import { modelOf, prepareRun } from '../prepare.js';
import type { PlanConfig, PlanSettings, RunConfig, Settings } from '../settings.js';
import { trialRun } from './measure.js';
import { planChanged, planFullRows, planPrepared } from './needs.js';
import {
  compare,
  type MeasuredReport,
  type MemoryReport,
  makeReport,
  memoryReport,
  type PlanReport,
} from './report.js';

export interface Plan {
  report: PlanReport;
  /** Loads the model, trains a few micro-batches, and compares what that takes with the plan. Nothing is written. */
  measure(): Promise<MeasuredReport>;
}

/**
 * What a run of these settings takes and what it will do, before it starts. Its device need not be there. Sets the number
 * of threads, for memory depends on it.
 *
 * @param onMessage hears lines for people on what the data hold
 * @throws UserError as the run would, for its settings, its model's config and its data
 */
export async function plan(
  settings: Settings,
  { onMessage = () => {} }: { onMessage?: (text: string) => void } = {},
): Promise<Plan> {
  const config = checkPlanSettings(settings);
  if (!hasData(config)) throw new UserError('data_path is missing; planRows() plans without data');
  addon.setThreads(config.threads ?? defaultThreads());
  const prepared = await prepareRun(config, onMessage);
  const memory = await memoryReport(
    config,
    prepared.model,
    (specs) => planPrepared(prepared, { specs }),
    async (changes) => (await planChanged(prepared, changes)).memory.total,
  );
  const report = await makeReport(prepared, memory.report, memory.plan);
  return {
    report,
    async measure() {
      const { device } = prepared;
      if (!addon.devices().includes(device))
        throw new UserError(`--measure: ${device} cannot be used: ${addon.missing()[device]}`);
      return compare(await trialRun(prepared, memory.plan, report.tokens.total), memory.plan);
    },
  };
}

export function hasData(config: PlanConfig): config is RunConfig {
  return config.data_path !== undefined;
}

/**
 * What training on full rows takes: on micro-batches of `per_device_train_batch_size` rows of `model_max_length` tokens. It
 * needs neither data nor weights, and of the model its config alone.
 *
 * @throws UserError for the settings, and the model's config
 */
export async function planRows(settings: PlanSettings): Promise<MemoryReport> {
  const config = checkPlanSettings(settings);
  addon.setThreads(config.threads ?? defaultThreads());
  const model = modelOf(config);
  const { report } = await memoryReport(
    config,
    model,
    (specs) => planFullRows(config, model, specs),
    async (changes) => planFullRows({ ...config, ...changes }, model).memory.total,
  );
  return report;
}
