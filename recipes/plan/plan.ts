import { addon } from '../../engine/device/addon.js';
import { defaultThreads } from '../../engine/machine/threads.js';
import { prepareRun } from '../prepare.js';
import type { RunConfig } from '../settings.js';
import { trialRun } from './measure.js';
import { planPrepared } from './needs.js';
import { compare, type MeasuredReport, makeReport, type PlanReport } from './report.js';

export interface Plan {
  report: PlanReport;
  /** Loads the model, trains a few micro-batches, and compares what that takes with the plan. Nothing is written. */
  measure(): Promise<MeasuredReport>;
}

/**
 * What a run takes and what it will do, before it starts. Sets the number of threads, of which memory depends.
 *
 * @param say hears lines for people on what the data hold
 * @throws UserError as the run would, for its model's config and its data
 */
export async function planOf(config: RunConfig, say: (line: string) => void): Promise<Plan> {
  addon.setThreads(config.threads ?? defaultThreads());
  const prepared = await prepareRun(config, say);
  const plan = planPrepared(prepared);
  const report = makeReport(prepared, plan);
  return {
    report,
    measure: async () => compare(await trialRun(prepared, plan, report.tokens.total), plan),
  };
}
