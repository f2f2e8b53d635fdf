import { IGNORE_INDEX, type MicroBatch } from '../../batch.js';
import { addon, type DeviceName, defaultDevice, metaOf } from '../device/addon.js';
import type { FloatType } from '../device/native_tensor.js';
import type { LlamaConfig } from '../model/config.js';
import type { ParameterGroup } from '../model/layout.js';
import { LlamaForCausalLM } from '../model/llama.js';
import { Gradients, Parameters, type Precision } from '../model/parameters.js';
import { causalPairs } from '../ops/attention.js';
import { AdamW } from '../optim/adamw.js';
import { type BatchSize, contenders } from './batch_size.js';

/** A run as far as what it keeps goes. */
export interface StateToPlan {
  /** Default: the one that a run takes. */
  device?: DeviceName;
  model: LlamaConfig;
  /** Default: all of the model is trained. */
  specs?: readonly ParameterGroup[];
  precision: Precision;
  /** What gradients and moments are kept in. Default: float32. */
  gradientType?: FloatType;
  stateType?: FloatType;
  /** Whether what only the optimizer needs lies in the machine's memory. Default: where the device's tensors lie. */
  stateOnHost?: boolean;
}

/** A run as far as its memory and its arithmetic go. */
export interface RunToPlan extends StateToPlan {
  gradientCheckpointing: boolean;
  /** Every micro-batch of the run; at least one. */
  training: readonly BatchSize[];
  /** Every micro-batch of an evaluation. */
  evaluation: readonly BatchSize[];
}

/** Bytes of the engine's memory when it is fullest, by what they are for. */
export interface MemoryPlan {
  /** As arithmetic uses them. */
  weights: number;
  /** What bfloat16 weights leave of their float32 values; 0 in fp32, and where that is among the `offloaded`. */
  remainders: number;
  gradients: number;
  /** AdamW's two; 0 likewise. */
  moments: number;
  /** Remainders and moments that a device with memory of its own leaves in the machine's. Not in `total`. */
  offloaded: number;
  /** What the step's tensors take of the arena, the gaps between them included. */
  activations: number;
  /** The scratch of the op that is running when the arena is fullest. */
  workspace: number;
  /** RoPE tables, and the ids and positions of a micro-batch. */
  tablesAndBatches: number;
  /** The high-water mark of the arena: activations and workspace. */
  arena: number;
  total: number;
}

/** What of that a run keeps from its beginning to its end, whatever the batch; `total`: on the device. */
export type KeptMemory = Pick<
  MemoryPlan,
  'weights' | 'remainders' | 'gradients' | 'moments' | 'offloaded' | 'total'
>;

export interface RunPlan {
  memory: MemoryPlan;
  /** Forward and backward over all of the run, multiply and add counted as two, evaluation not counted. */
  flops: number;
  /** The micro-batch that takes the most of the arena. */
  largest: BatchSize;
  /** Likewise of an evaluation; undefined without one. */
  largestEvaluation: BatchSize | undefined;
}

/**
 * What a run takes, found by running its largest micro-batches on the `meta` device: the code that trains, in the
 * same order, on memory that is only counted. The arena's mark is exact for the number of threads that is set, and
 * it is that of the largest micro-batch, because within a step everything is released.
 */
export function planRun(run: RunToPlan): RunPlan {
  const { device = defaultDevice(), gradientCheckpointing, training, evaluation } = run;
  const meta = metaOf(device);
  addon.resetStats(meta);
  const { heapBytes } = addon.stats(meta);
  const { parameters, gradients, optimizer, memory: kept } = keep(meta, run);
  const model = new LlamaForCausalLM(parameters);

  const fullest = { arena: 0, workspace: 0, heap: 0 };
  /** Runs `pass` by itself and returns its high-water mark. */
  const measure = (pass: () => void): number => {
    addon.resetStats(meta);
    pass();
    const { arenaHighWater, arenaWorkspace, heapHighWater } = addon.stats(meta);
    fullest.heap = Math.max(fullest.heap, heapHighWater);
    if (arenaHighWater > fullest.arena) {
      fullest.arena = arenaHighWater;
      fullest.workspace = arenaWorkspace;
    }
    return arenaHighWater;
  };
  const train = (size: BatchSize) => {
    model.forwardBackward(emptyBatch(size), 1, gradients, { gradientCheckpointing }).dispose();
  };

  const rowStep = addon.rowStep(meta);
  const largest = largestBy(contenders(training, rowStep), (size) => measure(() => train(size)))!;
  const largestEvaluation = largestBy(contenders(evaluation, rowStep), (size) =>
    measure(() => model.losses(emptyBatch(size))),
  );
  measure(() => optimizer.step(1, 0, gradients));
  const flops = countFlops(training, (lengths, labelTokens) => {
    addon.resetStats(meta);
    const tokens = lengths.reduce((sum, n) => sum + n, 0);
    train({ examples: [], lengths, tokens, labelTokens, longest: lengths.reduce((a, b) => Math.max(a, b)) });
    return addon.stats(meta).flops;
  });

  const heap = fullest.heap - heapBytes;
  gradients.dispose();
  optimizer.dispose();
  model.dispose();
  addon.resetStats(meta);
  return {
    memory: {
      ...kept,
      activations: fullest.arena - fullest.workspace,
      workspace: fullest.workspace,
      tablesAndBatches: heap - kept.total,
      arena: fullest.arena,
      total: heap + fullest.arena,
    },
    flops,
    largest,
    largestEvaluation,
  };
}

/** What a run keeps, before there are data: no layer is computed, so that thousands of them take no time to speak of. */
export function planKept(run: StateToPlan): KeptMemory {
  const { parameters, gradients, optimizer, memory } = keep(metaOf(run.device ?? defaultDevice()), run);
  gradients.dispose();
  optimizer.dispose();
  parameters.dispose();
  return memory;
}

function keep(
  meta: DeviceName,
  { model, specs, precision, gradientType, stateType, stateOnHost = false }: StateToPlan,
) {
  const { hostBytes } = addon.stats(meta);
  const parameters = new Parameters(model, meta, precision, { specs, remainderOnHost: stateOnHost });
  const gradients = new Gradients(parameters, gradientType);
  const optimizer = new AdamW(parameters, {
    beta1: 0,
    beta2: 0,
    epsilon: 0,
    weightDecay: 0,
    stateType,
    onHost: stateOnHost,
  });
  const offloaded = addon.stats(meta).hostBytes - hostBytes;
  const parts = {
    weights: parameters.flat.bytes,
    remainders: offloaded > 0 ? 0 : (parameters.remainder?.bytes ?? 0),
    gradients: gradients.flat.bytes,
    moments: offloaded > 0 ? 0 : optimizer.m.bytes + optimizer.v.bytes,
  };
  const total = parts.weights + parts.remainders + parts.gradients + parts.moments;
  const memory: KeptMemory = { ...parts, offloaded, total };
  return { parameters, gradients, optimizer, memory };
}

/** A micro-batch of that size; on `meta` nobody looks at the ids. */
function emptyBatch({ lengths, tokens, labelTokens }: BatchSize): MicroBatch {
  const documentOffsets = new Int32Array(lengths.length + 1);
  for (const [i, length] of lengths.entries()) documentOffsets[i + 1] = documentOffsets[i] + length;
  return {
    ids: new Int32Array(tokens),
    targets: new Int32Array(tokens).fill(IGNORE_INDEX, labelTokens),
    documentOffsets,
  };
}

/**
 * FLOPs of all micro-batches. Every op counts in proportion to tokens, to labelled tokens or to the query-key pairs
 * of attention, so that four passes of a token or two tell what each of these costs.
 */
function countFlops(
  sizes: readonly BatchSize[],
  flopsOf: (lengths: number[], labelTokens: number) => number,
): number {
  const [one, two] = [flopsOf([1], 1), flopsOf([1, 1], 1)];
  const perPair = flopsOf([2], 1) - two;
  const perLabel = flopsOf([1, 1], 2) - two;
  const perToken = one - perLabel - perPair;
  let flops = 0;
  for (const size of sizes) {
    // Without a label there is nothing to learn, and nothing is computed.
    if (size.labelTokens === 0) continue;
    flops += perToken * size.tokens + perLabel * size.labelTokens + perPair * causalPairs(size.lengths);
  }
  return flops;
}

function largestBy<T>(items: readonly T[], measure: (item: T) => number): T | undefined {
  let largest: T | undefined;
  let most = Number.NEGATIVE_INFINITY;
  for (const item of items) {
    const value = measure(item);
    if (value > most) [largest, most] = [item, value];
  }
  return largest;
}

/**
 * How many bytes resident memory may grow by over a run of which `planned` bytes are in the plan: the rest is code,
 * libraries and JavaScript's own heap.
 */
export function residentAllowance(planned: number): number {
  return Math.floor(planned * 1.05) + 64 * 2 ** 20;
}
