import { IGNORE_INDEX } from '../../batch.js';
import { addon, type DeviceName, metaOf } from '../../engine/device/addon.js';
import { type FloatType, NativeTensor } from '../../engine/device/native_tensor.js';
import type { Ops } from '../../engine/device/ops.js';
import { Decoder } from '../../engine/generate/decoder.js';
import type { LlamaConfig } from '../../engine/model/config.js';
import { LlamaForCausalLM } from '../../engine/model/llama.js';
import { Gradients, Parameters } from '../../engine/model/parameters.js';
import { AdamW } from '../../engine/optim/adamw.js';
import { nextToken } from '../../engine/train/objective.js';
import { type Arguments, type Work, workOf } from './work.js';

/** An op that was called, and what it has a card do. */
export interface Call {
  op: keyof Ops;
  work: Work;
}

export interface Step {
  /** Forward and backward of a step's first micro-batch, which writes over gradients, and of each other, which adds to them. */
  first: Call[];
  microBatch: Call[];
  /** What comes once a step: clipping and AdamW. */
  update: Call[];
}

export interface StepOptions {
  rows: number;
  length: number;
  gradientCheckpointing?: boolean;
  /** What gradients and moments are kept in; default float32. */
  states?: FloatType;
  /** Default: the plan of a card, which computes nothing. */
  device?: DeviceName;
}

/** Rows of `length` tokens, all of whose tokens have a label. */
export function fullRows(config: LlamaConfig, rows: number, length: number) {
  const ids = Int32Array.from({ length: rows * length }, (_, i) => i % config.vocabSize);
  return {
    ids,
    // The last token of a row predicts nothing.
    targets: ids.map((id, i) => ((i + 1) % length === 0 ? IGNORE_INDEX : id)),
    documentOffsets: Int32Array.from({ length: rows + 1 }, (_, row) => row * length),
    rows: Int32Array.from({ length: rows }, (_, row) => row),
    labelTokens: rows * (length - 1),
  };
}

/** The calls of ops that a step makes. */
export function stepOf(config: LlamaConfig, options: StepOptions): Step {
  const training = trainingOf(config, options);
  // What a gradient is written to is known when a pass has reached it.
  training.microBatch();
  training.zero();
  const [first, microBatch, update] = [training.microBatch, training.microBatch, training.update].map(
    callsOf,
  );
  training.dispose();
  return { first, microBatch, update };
}

/** The calls of ops that one token more takes, for so many texts of `length` tokens at once. */
export function decodingOf(config: LlamaConfig, texts: number, length: number): Call[] {
  const model = new LlamaForCausalLM(new Parameters(config, metaOf('cuda'), 'bf16'));
  const decoder = new Decoder(model);
  const all = Array.from({ length: texts }, () => decoder.add());
  const append = (tokens: number) =>
    decoder.append(all.map((text) => ({ text, ids: new Int32Array(tokens) })));
  append(length - 1);
  const calls = callsOf(() => append(1));
  decoder.dispose();
  model.dispose();
  return calls;
}

/** Seconds of JavaScript and of the addon for a call of a micro-batch, all that lies between the calls included. */
export function secondsPerCall(config: LlamaConfig, options: StepOptions): number {
  const training = trainingOf(config, options);
  const calls = callsOf(training.microBatch).length;
  const times = Array.from({ length: 20 }, () => {
    const start = performance.now();
    training.microBatch();
    return (performance.now() - start) / 1000;
  });
  training.dispose();
  return Math.min(...times) / calls;
}

function trainingOf(
  config: LlamaConfig,
  { rows, length, gradientCheckpointing = false, states = 'float32', device = metaOf('cuda') }: StepOptions,
) {
  const model = new LlamaForCausalLM(new Parameters(config, device, 'bf16'));
  const gradients = new Gradients(model.parameters, states);
  const optimizer = new AdamW(model.parameters, {
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weightDecay: 0,
    stateType: states,
  });
  const objective = nextToken(model, { gradientCheckpointing });
  const sums = NativeTensor.onHeap(device, 'float64', [1]);
  const batch = fullRows(config, rows, length);
  return {
    microBatch: () => objective.forwardBackward(batch, 1 / batch.labelTokens, gradients, sums),
    zero: () => gradients.zero(),
    update: () => optimizer.step(1, 1e-5, gradients, { maxGradNorm: 1, losses: sums }),
    dispose() {
      for (const part of [sums, optimizer, gradients, model]) part.dispose();
    },
  };
}

/** The calls of ops that `body` makes, in order. */
export function callsOf(body: () => void): Call[] {
  const ops = addon.ops as Record<keyof Ops, (args: never) => void>;
  const own = { ...ops };
  const calls: Call[] = [];
  for (const op of Object.keys(own) as (keyof Ops)[])
    ops[op] = (args) => {
      calls.push({ op, work: workOf(op, args as Arguments<typeof op>) });
      own[op](args);
    };
  try {
    body();
  } finally {
    Object.assign(ops, own);
  }
  return calls;
}
