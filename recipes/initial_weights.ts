import { loadHfWeights } from '../engine/checkpoint/hf_model.js';
import type { Parameters } from '../engine/model/parameters.js';
import type { PreparedRun } from './prepare.js';

/**
 * The weights a run starts from: those of model_name_or_path, or new ones by its seed.
 * @returns the names of tensors in its files that the model has no use for.
 */
export async function setInitialWeights(
  { config, model }: PreparedRun,
  parameters: Parameters,
): Promise<string[]> {
  if (config.model_name_or_path === undefined) {
    for (const _ of parameters.initializing(config.seed)) await new Promise(setImmediate);
    return [];
  }
  const unused = await loadHfWeights(config.model_name_or_path, model, parameters);
  parameters.mastersChanged();
  return unused;
}
