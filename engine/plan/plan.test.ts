import { afterEach, describe, expect, it } from 'vitest';
import { IGNORE_INDEX, type MicroBatch } from '../../batch.js';
import { addon, type DeviceName, defaultDevice, metaOf } from '../device/addon.js';
import type { FloatType } from '../device/native_tensor.js';
import { type LlamaConfig, parseLlamaConfig } from '../model/config.js';
import { LlamaForCausalLM } from '../model/llama.js';
import { Gradients, Parameters, type Precision } from '../model/parameters.js';
import { AdamW } from '../optim/adamw.js';
import { type BatchSize, batchSize } from './batch_size.js';
import { planRun } from './plan.js';

const tiny = config({});
const threads = addon.info().threads;
afterEach(() => addon.setThreads(threads));

function config(keys: Record<string, unknown>): LlamaConfig {
  return parseLlamaConfig(
    {
      model_type: 'llama',
      vocab_size: 97,
      hidden_size: 36,
      intermediate_size: 50,
      num_hidden_layers: 3,
      num_attention_heads: 6,
      num_key_value_heads: 2,
      max_position_embeddings: 64,
      tie_word_embeddings: false,
      ...keys,
    },
    'test',
  );
}

/** Random examples, of which some have no label, and micro-batches of 1 to `most` of them. */
function randomRun(seed: number, microBatches: number, most: number, longest: number): BatchSize[] {
  let state = seed;
  // Marsaglia's xorshift32: any spread of sizes will do.
  const random = (n: number) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
  return Array.from({ length: microBatches }, () => {
    const lengths = Int32Array.from({ length: 1 + random(most) }, () => 1 + random(longest));
    const labelCounts = lengths.map((n) => random(n));
    return batchSize([...lengths.keys()], { lengths, labelCounts });
  });
}

function microBatch({ lengths, tokens, labelTokens }: BatchSize): MicroBatch {
  let at = 0;
  return {
    ids: Int32Array.from({ length: tokens }, (_, i) => i % 97),
    targets: Int32Array.from({ length: tokens }, (_, i) => (i < labelTokens ? i % 89 : IGNORE_INDEX)),
    documentOffsets: Int32Array.from([0, ...lengths.map((n) => (at += n))]),
  };
}

/** Does the whole run, and returns what the device then says. */
function doRun(
  device: DeviceName,
  model: LlamaConfig,
  precision: Precision,
  gradientCheckpointing: boolean,
  training: readonly BatchSize[],
  evaluation: readonly BatchSize[],
  type: FloatType = 'float32',
) {
  addon.resetStats(device);
  const { heapBytes } = addon.stats(device);
  const parameters = new Parameters(model, device, precision);
  parameters.initialize(1);
  const llama = new LlamaForCausalLM(parameters);
  const gradients = new Gradients(parameters, type);
  const optimizer = new AdamW(parameters, {
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-8,
    weightDecay: 0,
    stateType: type,
  });
  for (const [i, size] of training.entries()) {
    gradients.zero();
    llama.forwardBackward(microBatch(size), 1 / size.tokens, gradients, { gradientCheckpointing }).dispose();
    optimizer.step(i + 1, 1e-3, gradients);
  }
  const { flops } = addon.stats(device);
  for (const size of evaluation) llama.losses(microBatch(size));
  const { arenaHighWater, arenaInUse, heapHighWater } = addon.stats(device);
  gradients.dispose();
  optimizer.dispose();
  llama.dispose();
  return { arena: arenaHighWater, inUse: arenaInUse, heap: heapHighWater - heapBytes, flops };
}

describe.each([
  ['fp32', 'float32'],
  ['bf16', 'float32'],
  ['bf16', 'bfloat16'],
] as const)('the plan of a run in %s, gradients and moments in %s', (precision, type) => {
  const kept = { precision, gradientType: type, stateType: type };

  describe.each([false, true])('with gradient checkpointing %s', (gradientCheckpointing) => {
    it.each([
      ['documents of any length', tiny, randomRun(7, 12, 5, 40), []],
      [
        'a tied model',
        config({ tie_word_embeddings: true, num_key_value_heads: 6 }),
        randomRun(8, 6, 3, 30),
        [],
      ],
      ['one document at a time', tiny, randomRun(9, 8, 1, 60), []],
      ['an evaluation of larger batches', tiny, randomRun(10, 4, 1, 10), randomRun(11, 4, 9, 60)],
      [
        'RoPE that scales with the document',
        config({ rope_scaling: { rope_type: 'dynamic', factor: 2 }, max_position_embeddings: 16 }),
        randomRun(12, 5, 3, 50),
        [],
      ],
    ])('is to the byte what the CPU takes: %s', (_, model, training, evaluation) => {
      const { memory, flops } = planRun({ ...kept, model, gradientCheckpointing, training, evaluation });
      const real = doRun(
        defaultDevice(),
        model,
        precision,
        gradientCheckpointing,
        training,
        evaluation,
        type,
      );
      expect(memory.arena).toBe(real.arena);
      expect(memory.total).toBe(real.arena + real.heap);
      expect(flops).toBe(real.flops);
      expect(real.inUse).toBe(0);
    });
  });

  it('follows the number of threads', () => {
    const training = randomRun(3, 5, 4, 40);
    const arenas = [1, 2].map((n) => {
      addon.setThreads(n);
      const run = { ...kept, model: tiny, gradientCheckpointing: false, training, evaluation: [] };
      const { arena } = planRun(run).memory;
      expect(doRun(defaultDevice(), tiny, precision, false, training, [], type).arena).toBe(arena);
      return arena;
    });
    expect(arenas[1]).toBeGreaterThan(arenas[0]);
  });

  it('names the parts', () => {
    const training = randomRun(5, 5, 4, 40);
    const { memory, largest, largestEvaluation } = planRun({
      ...kept,
      model: tiny,
      gradientCheckpointing: false,
      training,
      evaluation: [],
    });
    const parameters = new Parameters(tiny, metaOf(defaultDevice()), precision);
    const { size } = parameters.layout;
    parameters.dispose();
    expect(memory).toMatchObject({
      weights: (precision === 'bf16' ? 2 : 4) * size,
      remainders: (precision === 'bf16' ? 2 : 0) * size,
      gradients: (type === 'bfloat16' ? 2 : 4) * size,
      moments: (type === 'bfloat16' ? 4 : 8) * size,
    });
    // cos and sin of 64 positions and 3 angles, and two int32 a token and a label.
    const { tokens, labelTokens, lengths } = largest;
    expect(memory.tablesAndBatches).toBeGreaterThanOrEqual(2 * 64 * 3 * 4 + 8 * tokens + 8 * labelTokens);
    const { arena, total, activations, workspace, ...held } = memory;
    expect(total).toBe(Object.values(held).reduce((sum, bytes) => sum + bytes, arena));
    expect(activations + workspace).toBe(arena);
    expect(training.map((t) => t.lengths)).toContainEqual(lengths);
    expect(largestEvaluation).toBeUndefined();
  });
});

describe('the micro-batches that a plan tries', () => {
  const shapes: [string, LlamaConfig][] = [
    ['of a small vocabulary', tiny],
    // Logits in many chunks, and sizes that 256 does not divide.
    ['of a large vocabulary', config({ vocab_size: 60_000, hidden_size: 12, head_dim: 2 })],
    ['of one layer', config({ num_hidden_layers: 1, hidden_size: 132, num_attention_heads: 2 })],
    ['of many', config({ num_hidden_layers: 24 })],
  ];
  it.each(shapes)('hold the largest one: models %s', (_, model) => {
    for (const gradientCheckpointing of [false, true])
      for (let seed = 1; seed <= 6; seed++) {
        // Documents of nearly one length, as packing makes them, and of any; up to 900 tokens.
        const training = seed % 2 ? randomRun(seed, 150, 3, 300) : randomRun(seed, 150, 12, 64);
        const evaluation = randomRun(seed + 100, 20, 4, 200);
        const plan = planRun({ model, precision: 'fp32', gradientCheckpointing, training, evaluation });
        const all = doRun(
          metaOf(defaultDevice()),
          model,
          'fp32',
          gradientCheckpointing,
          training,
          evaluation,
        );
        expect(plan.memory.arena).toBe(all.arena);
        expect(plan.flops).toBe(all.flops);
      }
  });
});
