import { join } from 'node:path';
import { defaultDevice } from '../engine/device/addon.js';
import { readLlamaConfig } from '../engine/model/config.js';
import { LlamaForCausalLM } from '../engine/model/llama.js';
import { Parameters, type Precision } from '../engine/model/parameters.js';
import { fill, readSafetensors } from './read_safetensors.js';

/** Seeded tiny models, each with what PyTorch computes of it. */
export const llamaFixtures = join(import.meta.dirname, 'fixtures/llama');

export function loadModel(directory: string, precision: Precision): LlamaForCausalLM {
  const parameters = new Parameters(readLlamaConfig(directory), defaultDevice(), precision);
  const file = readSafetensors(join(directory, 'model.safetensors'));
  fill(parameters, (name) => file.get(name));
  return new LlamaForCausalLM(parameters);
}
