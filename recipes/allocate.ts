import { releaseOnThrow } from '../engine/device/native_tensor.js';
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
export function allocate({
  model: config,
  device,
  precision,
  gradientType,
  stateType,
  stateOnHost,
  optimizer: options,
}: PreparedRun): RunMemory {
  return releaseOnThrow(() => {
    const model = new LlamaForCausalLM(
      new Parameters(config, device, precision, { remainderOnHost: stateOnHost }),
    );
    const optimizer = new AdamW(model.parameters, { ...options, stateType, onHost: stateOnHost });
    const gradients = new Gradients(model.parameters, gradientType);
    return {
      model,
      gradients,
      optimizer,
      dispose() {
        for (const part of [model, optimizer, gradients]) part.dispose();
      },
    };
  });
}
