import { type LoadReport, loadHfWeights } from '../engine/checkpoint/hf_model.js';
import type { Parameters } from '../engine/model/parameters.js';
import type { PreparedRun } from './prepare.js';

/**
 * The weights a run starts from: those of model_name_or_path, or new ones by its seed.
 * @returns what there is to say of its files.
 */
export async function setInitialWeights(
  { config, model }: PreparedRun,
  parameters: Parameters,
): Promise<LoadReport> {
  if (config.model_name_or_path === undefined) {
    for (const _ of parameters.initializing(config.seed)) await new Promise(setImmediate);
    return { unused: [], notes: [] };
  }
  return loadHfWeights(config.model_name_or_path, model, parameters);
}
