import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSafetensors } from '../../tests/read_safetensors.js';
import { defaultDevice } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';
import { axpby } from '../ops/elementwise.js';
import { clipFactor, globalNorm } from './clip.js';

// Reference values: torch.nn.utils.clip_grad_norm_ in float64. Norm and clipped gradients to 1e-6 relative, as the
// fixtures state for float32 gradients.
const RELATIVE = 1e-6;

const fixtures = join(import.meta.dirname, '../../tests/fixtures/optim');
const file = readSafetensors(join(fixtures, 'clip.safetensors'));
const cases: { name: string; max_norm: number; tensors: number; total_norm: number }[] = JSON.parse(
  readFileSync(join(fixtures, 'clip.json'), 'utf8'),
);

describe('clipping by the global norm equals the reference', () => {
  it.each(cases)('$name', ({ name, max_norm, tensors, total_norm }) => {
    const all = (key: string) =>
      Array.from({ length: tensors }, (_, i) => [...file.get(`${name}.${key}.${i}`)!.data]).flat();
    const flat = NativeTensor.from(defaultDevice(), Float32Array.from(all('grad')));
    const norm = globalNorm(flat);
    expect(Math.abs(norm - total_norm)).toBeLessThanOrEqual(RELATIVE * total_norm);

    axpby(flat, clipFactor(norm, max_norm), flat);
    const expected = all('clipped');
    flat.floats().forEach((value, i) => {
      expect(Math.abs(value - expected[i]), `element ${i}`).toBeLessThanOrEqual(
        RELATIVE * Math.abs(expected[i]),
      );
    });
    flat.dispose();
  });
});

it('max_norm 0 clips nothing', () => {
  expect(clipFactor(1e9, 0)).toBe(1);
});

it('a norm that is not finite gives a factor that is not, or 0: the caller stops before it', () => {
  expect(clipFactor(Number.NaN, 1)).toBeNaN();
  expect(clipFactor(Infinity, 1)).toBe(0);
});
