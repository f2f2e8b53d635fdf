import { addon } from '../../engine/device/addon.js';
import { defaultThreads } from '../../engine/machine/threads.js';
import { checkSettings } from '../check_settings.js';
import { prepareRun } from '../prepare.js';
import type { Settings } from '../settings.js';
import { trialRun } from './measure.js';
import { planPrepared } from './needs.js';
import { compare, type MeasuredReport, makeReport, type PlanReport } from './report.js';

export interface Plan {
  report: PlanReport;
  /** Loads the model, trains a few micro-batches, and compares what that takes with the plan. Nothing is written. */
  measure(): Promise<MeasuredReport>;
}

/**
 * What a run of these settings takes and what it will do, before it starts. Sets the number of threads, for memory
 * depends on it.
 *
 * @param onMessage hears lines for people on what the data hold
 * @throws UserError as the run would, for its settings, its model's config and its data
 */
export async function plan(
  settings: Settings,
  { onMessage = () => {} }: { onMessage?: (text: string) => void } = {},
): Promise<Plan> {
  const config = checkSettings(settings);
  addon.setThreads(config.threads ?? defaultThreads());
  const prepared = await prepareRun(config, onMessage);
  const runPlan = planPrepared(prepared);
  const report = await makeReport(prepared, runPlan);
  return {
    report,
    measure: async () => compare(await trialRun(prepared, runPlan, report.tokens.total), runPlan),
  };
}
