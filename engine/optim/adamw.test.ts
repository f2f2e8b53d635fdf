import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSafetensors } from '../../tests/read_safetensors.js';
import { addon, defaultDevice } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';
import { parseLlamaConfig } from '../model/config.js';
import { Gradients, Parameters } from '../model/parameters.js';
import { fill } from '../ops/elementwise.js';
import { AdamW } from './adamw.js';

// Reference values: torch.optim.AdamW in float64. The fixtures state for a float32 engine: parameters 3e-6 absolute
// after 20 steps, moments 2e-6 of the largest of a tensor.
const PARAMETER = 3e-6;
const MOMENT = 2e-6;

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

describe.each(given.weight_decay)('AdamW with weight decay %f equals the reference', (decay) => {
  it.each(Object.keys(given.shapes))('%s', (name) => {
    const p0 = file.get(`p0.${name}`)!.data;
    const gradients = file.get(`grad.${name}`)!.data;
    const n = p0.length;
    const p = NativeTensor.from(defaultDevice(), Float32Array.from(p0));
    const [m, v] = [0, 1].map(() => NativeTensor.from(defaultDevice(), new Float32Array(n)));
    const g = NativeTensor.onHeap(defaultDevice(), 'float32', [n]);
    const update = NativeTensor.onHeap(defaultDevice(), 'float64', [4]);
    for (let step = 1; step <= given.steps; step++) {
      g.write(Float32Array.from(gradients.subarray((step - 1) * n, step * n)));
      const [beta1, beta2] = given.betas;
      update.write(Float64Array.of(step, given.lr[step - 1], 0, 1));
      addon.ops.adamw({ p, m, v, g, update, n, beta1, beta2, eps: given.eps, weight_decay: decay });
      for (const [key, tensor, relative] of [
        ['p', p, 0],
        ['exp_avg', m, MOMENT],
        ['exp_avg_sq', v, MOMENT],
      ] as const) {
        const expected = file.get(`wd${decay === 0 ? '0.0' : decay}.step${step}.${key}.${name}`)?.data;
        // There are references after 1, 5 and 20 steps.
        expect(expected !== undefined).toBe([1, 5, 20].includes(step));
        if (!expected) continue;
        const largest = Math.max(...Array.from(expected, Math.abs));
        tensor.floats().forEach((value, i) => {
          expect(Math.abs(value - expected[i]), `${key}[${i}] after ${step}`).toBeLessThanOrEqual(
            relative ? relative * largest : PARAMETER,
          );
        });
      }
    }
    for (const t of [p, m, v, g, update]) t.dispose();
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
    const rounded = NativeTensor.onHeap(defaultDevice(), parameters.flat.dtype, [after.length]);
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
