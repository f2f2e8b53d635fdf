import { UserError } from '../../errors.js';
import { type DeviceName, defaultDevice } from '../device/addon.js';
import { deviceMemory } from '../device/memory.js';
import { bytesText } from '../machine/memory.js';
import { readLlamaConfig } from '../model/config.js';
import { type Layout, layoutOf } from '../model/layout.js';
import { LlamaForCausalLM } from '../model/llama.js';
import { Parameters, type Precision } from '../model/parameters.js';
import { causalLmSpecs, none, type Trainable } from '../model/specs.js';
import { checkHfWeights, type LoadReport, loadHfWeights } from './hf_model.js';

/**
 * The model of a Hugging Face directory (`config.json` and safetensors), to be disposed by the caller. Its parameters
 * are frozen unless `trainable` says otherwise: a model that only computes takes 2 bytes a parameter in bf16. `unused`
 * names the tensors of its files that a LLaMA has no use for, and `notes` has a line for each thing that was read
 * otherwise than it is written.
 * @throws UserError naming file and key or tensor, as readLlamaConfig and loadHfWeights do
 */
export async function loadModel(
  directory: string,
  {
    precision = 'fp32',
    device = defaultDevice(),
    trainable = none,
  }: { precision?: Precision; device?: DeviceName; trainable?: Trainable } = {},
): Promise<{ model: LlamaForCausalLM } & LoadReport> {
  const config = readLlamaConfig(directory);
  checkHfWeights(directory, config);
  const specs = causalLmSpecs(config, trainable);
  checkMemory(directory, layoutOf(specs), precision, device);
  const parameters = new Parameters(config, device, precision, { specs });
  try {
    const { unused, notes } = await loadHfWeights(directory, config, parameters);
    return { model: new LlamaForCausalLM(parameters), unused, notes: [...config.notes, ...notes] };
  } catch (error) {
    parameters.dispose();
    throw error;
  }
}

/** Of files as long as they say, sparse ones among them: what is taken is written at once. */
function checkMemory(
  directory: string,
  { size, trainableSize }: Layout,
  precision: Precision,
  device: DeviceName,
): void {
  const bytes = precision === 'fp32' ? 4 * size : 2 * (size + trainableSize);
  const { available, swap } = deviceMemory(device);
  const most = available + swap;
  if (bytes > most)
    throw new UserError(
      `${directory}: the weights of this model take ${bytesText(bytes)} of memory, and ${bytesText(most)} are ` +
        `available${precision === 'fp32' ? '; in bf16 they take half' : ''}`,
    );
}
