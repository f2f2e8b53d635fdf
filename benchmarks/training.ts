import type { TrainingBatch } from '../batch.js';
import { makeMicroBatch } from '../data/batch.js';
import { addon, type DeviceName, defaultDevice, metaOf } from '../engine/device/addon.js';
import { residentMemory } from '../engine/machine/memory.js';
import { parseLlamaConfig } from '../engine/model/config.js';
import { LlamaForCausalLM } from '../engine/model/llama.js';
import { Gradients, Parameters, type Precision } from '../engine/model/parameters.js';
import { AdamW } from '../engine/optim/adamw.js';
import { type TrainingStep, train } from '../engine/train/loop.js';
import { nextToken } from '../engine/train/objective.js';
import type { DeviceMemory, OwnRound } from './protocol.js';
import { median } from './statistics.js';
import { batchesOf, type Document, type Workload } from './workload.js';

/** The engine at the work of a benchmark: the training loop over the steps of a workload, one after the other. */
export class Training {
  private readonly model: LlamaForCausalLM;
  private readonly gradients: Gradients;
  private readonly optimizer: AdamW;
  private readonly batches: TrainingBatch[][];
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
    this.gradients = new Gradients(parameters, workload.states);
    this.optimizer = new AdamW(parameters, {
      beta1: adam_beta1,
      beta2: adam_beta2,
      epsilon: adam_epsilon,
      weightDecay: weight_decay,
      stateType: workload.states,
    });
    this.batches = workload.steps.map((documents) => batchesOf(documents, workload).map(toBatch));
  }

  get parameters(): number {
    return this.model.parameters.layout.parameters;
  }

  /**
   * The next `count` optimizer steps, timed one by one, as far as a device tells when one ends, and all together. The loss
   * is that of the last one, before its update.
   */
  async steps(count: number): Promise<{ tokens: number; loss: number; seconds: number[]; elapsed: number }> {
    const { learning_rate, max_grad_norm } = this.workload.optimizer;
    const steps: TrainingStep[] = Array.from({ length: count }, (_, i) => ({
      step: this.done + i,
      epochsDone: 0,
      endsEpoch: false,
      batches: this.batches[(this.done + i) % this.batches.length],
    }));
    this.done += count;
    const seconds: number[] = [];
    const start = performance.now();
    let since = start;
    const { loss } = await train({
      objective: nextToken(this.model, { gradientCheckpointing: false }),
      gradients: this.gradients,
      optimizer: this.optimizer,
      steps,
      options: {
        schedule: {
          type: 'constant',
          learningRate: learning_rate,
          warmupSteps: 0,
          totalSteps: Number.POSITIVE_INFINITY,
        },
        maxGradNorm: max_grad_norm,
        lossNormalization: 'token_mean',
        loggingSteps: Number.POSITIVE_INFINITY,
        evaluateEvery: 'no',
        saveEvery: 'no',
      },
      hooks: {
        progress() {
          const now = performance.now();
          seconds.push((now - since) / 1000);
          since = now;
        },
        stopRequested: () => undefined,
        log: () => {},
        save: async () => true,
        evaluate: async () => undefined,
      },
    });
    return {
      tokens: steps.flatMap(({ batches }) => batches).reduce((sum, { ids }) => sum + ids.length, 0),
      loss: loss!,
      seconds,
      // The loss has been waited for, and with it all that came before.
      elapsed: (performance.now() - start) / 1000,
    };
  }

  async round(): Promise<OwnRound> {
    const before = addon.stats(this.device).flops;
    const { tokens, loss, seconds, elapsed } = await this.steps(this.workload.stepsPerRound);
    const measured = deviceMemory(this.device);
    return {
      tokens,
      tok_s: tokens / elapsed,
      median_step_ms: median(seconds) * 1000,
      peak_rss_mib: residentMemory('VmHWM') / 2 ** 20,
      device_mib: addon.ownMemory(this.device).total > 0 ? (measured.arena + measured.heap) / 2 ** 20 : null,
      loss,
      flops: addon.stats(this.device).flops - before,
      measured,
    };
  }

  dispose(): void {
    this.model.dispose();
    this.gradients.dispose();
    this.optimizer.dispose();
  }
}

/** The memory that the whole workload takes, by the meta device, which computes nothing. */
export async function planMemory(
  workload: Workload,
  precision: Precision,
  device = defaultDevice(),
): Promise<DeviceMemory> {
  const meta = metaOf(device);
  addon.resetStats(meta);
  const training = new Training(workload, precision, meta);
  await training.steps(workload.steps.length);
  training.dispose();
  return deviceMemory(meta);
}

/** The most that was ever in use. */
export function deviceMemory(device: DeviceName): DeviceMemory {
  const { arenaHighWater, heapHighWater } = addon.stats(device);
  return { arena: arenaHighWater, heap: heapHighWater };
}

function toBatch(documents: readonly Document[]): TrainingBatch {
  const examples = documents.map(({ ids, labels }, row) => ({
    ids: Int32Array.from(ids),
    labels: Int32Array.from(labels),
    row,
    truncated: 0,
  }));
  return makeMicroBatch({ example: (i) => examples[i] }, [...examples.keys()]);
}
