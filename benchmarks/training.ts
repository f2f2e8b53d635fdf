import { makeMicroBatch } from '../data/batch.js';
import { IGNORE_INDEX } from '../data/sources.js';
import { addon, type DeviceName } from '../engine/backend/addon.js';
import { parseLlamaConfig } from '../engine/model/config.js';
import type { MicroBatch } from '../engine/model/device_batch.js';
import { LlamaForCausalLM } from '../engine/model/llama.js';
import { Gradients, Parameters, type Precision } from '../engine/model/parameters.js';
import { AdamW } from '../engine/optim/adamw.js';
import { clipFactor, globalNorm } from '../engine/optim/clip.js';
import type { DeviceMemory, OwnRound } from './protocol.js';
import { residentMib } from './protocol.js';
import { median } from './statistics.js';
import type { Document, Workload } from './workload.js';

/** The engine at the work of a benchmark: the steps of a workload, one after the other. */
export class Training {
  private readonly model: LlamaForCausalLM;
  private readonly gradients: Gradients;
  private readonly optimizer: AdamW;
  private readonly batches: ReturnType<typeof toBatch>[];
  private done = 0;

  constructor(
    private readonly workload: Workload,
    precision: Precision,
    private readonly device: DeviceName,
  ) {
    const config = parseLlamaConfig(workload.config, 'workload');
    const parameters = new Parameters(config, device, precision);
    parameters.initialize(0);
    const { adam_beta1, adam_beta2, adam_epsilon, weight_decay } = workload.optimizer;
    this.model = new LlamaForCausalLM(parameters);
    this.gradients = new Gradients(parameters.layout, config, device);
    this.optimizer = new AdamW(parameters.layout, device, {
      beta1: adam_beta1,
      beta2: adam_beta2,
      epsilon: adam_epsilon,
      weightDecay: weight_decay,
    });
    this.batches = workload.steps.map(toBatch);
  }

  get parameters(): number {
    return this.model.parameters.layout.parameters;
  }

  /** One optimizer step on the next documents. The loss is the mean over their labels, before the update. */
  step(): { tokens: number; loss: number } {
    const { batch, labels } = this.batches[this.done % this.batches.length];
    const { learning_rate, max_grad_norm } = this.workload.optimizer;
    this.done++;
    this.gradients.zero();
    const loss = this.model.forwardBackward(batch, 1 / labels, this.gradients) / labels;
    const factor = clipFactor(globalNorm(this.gradients.flat), max_grad_norm);
    this.optimizer.step(this.done, learning_rate, this.model.parameters, this.gradients, factor);
    return { tokens: batch.ids.length, loss };
  }

  /** The steps of one round, timed one by one. */
  round(): OwnRound {
    const before = addon.stats(this.device).flops;
    const seconds: number[] = [];
    let tokens = 0;
    let loss = 0;
    for (let i = 0; i < this.workload.stepsPerRound; i++) {
      const start = performance.now();
      const step = this.step();
      seconds.push((performance.now() - start) / 1000);
      tokens += step.tokens;
      loss = step.loss;
    }
    return {
      tokens,
      tok_s: tokens / seconds.reduce((sum, s) => sum + s, 0),
      median_step_ms: median(seconds) * 1000,
      peak_rss_mib: residentMib('VmHWM'),
      loss,
      flops: addon.stats(this.device).flops - before,
      measured: deviceMemory(this.device),
    };
  }

  dispose(): void {
    this.model.dispose();
    this.gradients.dispose();
    this.optimizer.dispose();
  }
}

/** The memory that the whole workload takes, by the meta device, which computes nothing. */
export function planMemory(workload: Workload, precision: Precision): DeviceMemory {
  addon.resetStats('meta');
  const training = new Training(workload, precision, 'meta');
  for (let i = 0; i < workload.steps.length; i++) training.step();
  training.dispose();
  return deviceMemory('meta');
}

/** The most that was ever in use. */
export function deviceMemory(device: DeviceName): DeviceMemory {
  const { arenaHighWater, heapHighWater } = addon.stats(device);
  return { arena: arenaHighWater, heap: heapHighWater };
}

function toBatch(documents: readonly Document[]): { batch: MicroBatch; labels: number } {
  const examples = documents.map(({ ids, labels }, row) => ({
    ids: Int32Array.from(ids),
    labels: Int32Array.from(labels),
    row,
    truncated: 0,
  }));
  const batch = makeMicroBatch({ example: (i) => examples[i] }, [...examples.keys()]);
  return { batch, labels: batch.targets.filter((target) => target !== IGNORE_INDEX).length };
}
