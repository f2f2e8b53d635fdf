import { LlamaForCausalLM } from '../engine/model/llama.js';
import { Gradients, Parameters } from '../engine/model/parameters.js';
import { AdamW } from '../engine/optim/adamw.js';
import type { PreparedRun } from './prepare.js';

/** What a run holds on its device from its first step to its last. */
export interface RunMemory {
  model: LlamaForCausalLM;
  gradients: Gradients;
  optimizer: AdamW;
  dispose(): void;
}

/** Takes the memory of a run; its weights are not set yet. */
export function allocate({ model: config, device, precision, optimizer: options }: PreparedRun): RunMemory {
  const held: { dispose(): void }[] = [];
  const hold = <T extends { dispose(): void }>(part: T): T => {
    held.push(part);
    return part;
  };
  const dispose = () => {
    for (const part of held) part.dispose();
  };
  try {
    const model = hold(new LlamaForCausalLM(new Parameters(config, device, precision)));
    const optimizer = hold(new AdamW(model.parameters, options));
    const gradients = hold(new Gradients(model.parameters));
    return { model, gradients, optimizer, dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}
