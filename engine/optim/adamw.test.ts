import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSafetensors } from '../../tests/read_safetensors.js';
import { addon, defaultDevice } from '../device/addon.js';
import { type DType, type FloatType, NativeTensor } from '../device/native_tensor.js';
import { parseLlamaConfig } from '../model/config.js';
import { Gradients, Parameters } from '../model/parameters.js';
import { SplitTensor } from '../model/split_tensor.js';
import { fill } from '../ops/elementwise.js';
import { AdamW } from './adamw.js';

// Reference values: torch.optim.AdamW in float64. The fixtures state for a float32 engine: parameters 3e-6 absolute
// after 20 steps, moments 2e-6 of the largest of a tensor.
const PARAMETER = 3e-6;
const MOMENT = 2e-6;
// In bfloat16 a moment is rounded by up to 2⁻⁷ of it, up or down by chance: 20 steps add up to a few times √20 · 2⁻⁸ of the
// largest. Half of that, for the root, a parameter may stray of the way it has gone, Σ lr.
const ROUNDED = { moment: 0.04, way: 0.02 };

const fixtures = join(import.meta.dirname, '../../tests/fixtures/optim');
const file = readSafetensors(join(fixtures, 'adamw.safetensors'));
const given: {
  betas: [number, number];
  eps: number;
  weight_decay: number[];
  steps: number;
  lr: number[];
  shapes: Record<string, number[]>;
} = JSON.parse(readFileSync(join(fixtures, 'adamw.json'), 'utf8'));

/** How parameters, moments and gradients are kept. */
const KEPT: { kept: string; split: boolean; type: FloatType }[] = [
  { kept: 'in float32', split: false, type: 'float32' },
  { kept: 'with split parameters', split: true, type: 'float32' },
  { kept: 'with split parameters, moments and gradients in bfloat16', split: true, type: 'bfloat16' },
];

describe.each(KEPT)('AdamW $kept', ({ split, type }) => {
  describe.each(given.weight_decay)('with weight decay %f equals the reference', (decay) => {
    it.each(Object.keys(given.shapes))('%s', (name) => {
      const device = defaultDevice();
      const p0 = file.get(`p0.${name}`)!.data;
      const gradients = file.get(`grad.${name}`)!.data;
      const n = p0.length;
      const heap = (t: DType) => NativeTensor.onHeap(device, t, [n]);
      const p = split ? new SplitTensor(heap('bfloat16'), heap('int16')) : heap('float32');
      p.write(Float32Array.from(p0));
      const [m, v, g] = [0, 1, 2].map(() => heap(type));
      for (const moment of [m, v]) fill(moment, 0);
      const update = NativeTensor.onHeap(device, 'float64', [4]);
      const kept = p instanceof SplitTensor ? { p: p.high, remainder: p.low } : { p };
      const [beta1, beta2] = given.betas;
      const options = { beta1, beta2, eps: given.eps, weight_decay: decay, seed: 1, place: 0 };
      for (let step = 1; step <= given.steps; step++) {
        g.write(Float32Array.from(gradients.subarray((step - 1) * n, step * n)));
        update.write(Float64Array.of(step, given.lr[step - 1], 0, 1));
        addon.ops.adamw({ ...kept, m, v, g, update, n, ...options });
        const way = given.lr.slice(0, step).reduce((sum, lr) => sum + lr, 0);
        const tolerance =
          type === 'float32'
            ? { p: PARAMETER, exp_avg: MOMENT, exp_avg_sq: MOMENT }
            : { p: ROUNDED.way * way, exp_avg: ROUNDED.moment, exp_avg_sq: ROUNDED.moment };
        for (const [key, tensor] of [
          ['p', p],
          ['exp_avg', m],
          ['exp_avg_sq', v],
        ] as const) {
          const expected = file.get(`wd${decay === 0 ? '0.0' : decay}.step${step}.${key}.${name}`)?.data;
          // There are references after 1, 5 and 20 steps.
          expect(expected !== undefined).toBe([1, 5, 20].includes(step));
          if (!expected) continue;
          const largest = Math.max(...Array.from(expected, Math.abs));
          const most = tolerance[key] * (key === 'p' ? 1 : largest);
          tensor.floats().forEach((value, i) => {
            expect(Math.abs(value - expected[i]), `${key}[${i}] after ${step}`).toBeLessThanOrEqual(most);
          });
        }
      }
      for (const t of [p, m, v, g, update]) t.dispose();
    });
  });
});

describe.each(['fp32', 'bf16'] as const)('a step over a model in %s', (precision) => {
  const config = parseLlamaConfig(
    { vocab_size: 5, hidden_size: 8, intermediate_size: 12, num_hidden_layers: 2, num_attention_heads: 2 },
    'test',
  );

  it('decays everything but norms, clips the gradient, and keeps the copy up to date', () => {
    const parameters = new Parameters(config, defaultDevice(), precision);
    parameters.initialize(1);
    const before = parameters.master.floats();
    const gradients = new Gradients(parameters);
    const optimizer = new AdamW(parameters, {
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      weightDecay: 0.1,
    });
    // Halved by clipping. The norm is taken over the gaps of the layout too, which are 0 in a run.
    fill(gradients.flat, 12);
    optimizer.step(1, 0.5, gradients, { maxGradNorm: 6 * Math.sqrt(gradients.flat.size) });
    const after = parameters.master.floats();
    const m = optimizer.m.floats();
    for (const { name, offset, size } of parameters.layout.entries) {
      const keep = name.includes('norm') ? 1 : 1 - 0.5 * 0.1;
      for (let i = offset; i < offset + size; i++) {
        // The first step goes by the sign of the gradient alone: lr · g/(|g| + eps).
        expect(Math.abs(after[i] - (before[i] * keep - 0.5)), `${name}`).toBeLessThanOrEqual(1e-6);
        expect(m[i]).toBeCloseTo(0.1 * 6, 6);
      }
    }
    const used = parameters.flat.floats();
    const flat = NativeTensor.onHeap(defaultDevice(), parameters.flat.dtype, [after.length]);
    const rounded = precision === 'bf16' ? new SplitTensor(flat) : flat;
    rounded.write(after);
    expect(used).toEqual(rounded.floats());

    // A gradient that is not finite changes nothing, and neither does what comes after it.
    for (const value of [Number.NaN, 1]) {
      fill(gradients.flat, value);
      optimizer.step(2, 0.5, gradients);
      expect(parameters.master.floats()).toEqual(after);
      expect(parameters.flat.floats()).toEqual(used);
      expect(optimizer.m.floats()).toEqual(m);
    }
    for (const t of [rounded, optimizer, gradients, parameters]) t.dispose();
  });
});
