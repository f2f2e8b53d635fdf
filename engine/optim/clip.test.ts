import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSafetensors } from '../../tests/read_safetensors.js';
import { defaultDevice } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';
import { axpby } from '../ops/elementwise.js';
import { sumSquaresInto } from '../ops/reduce.js';
import { clip } from './clip.js';

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
    const { norm, scale } = clipped(flat, max_norm);
    expect(Math.abs(norm - total_norm)).toBeLessThanOrEqual(RELATIVE * total_norm);

    axpby(flat, scale, flat);
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
  const flat = NativeTensor.from(defaultDevice(), Float32Array.of(3e4, 4e4));
  expect(clipped(flat, 0)).toEqual({ norm: 5e4, scale: 1 });
  flat.dispose();
});

describe('no update follows', () => {
  it.each([Number.NaN, Number.POSITIVE_INFINITY])('a gradient of %f, then or later', (value) => {
    const update = NativeTensor.from(defaultDevice(), new Float64Array(4));
    const [bad, good] = [value, 1].map((x) => NativeTensor.from(defaultDevice(), Float32Array.of(x)));
    for (const flat of [bad, good]) expect(clipped(flat, 1, update)).toEqual({ norm: NaN, scale: NaN });
    for (const t of [update, bad, good]) t.dispose();
  });

  it('a loss that is not finite, but finite ones do nothing', () => {
    const flat = NativeTensor.from(defaultDevice(), Float32Array.of(3, 4));
    for (const [last, expected] of [
      [1e300, { norm: 5, scale: 1 }],
      [Number.NaN, { norm: NaN, scale: NaN }],
      [Number.NEGATIVE_INFINITY, { norm: NaN, scale: NaN }],
    ] as const) {
      const losses = NativeTensor.from(defaultDevice(), Float64Array.of(2, last));
      expect(clipped(flat, 0, undefined, losses)).toEqual(expected);
      losses.dispose();
    }
    flat.dispose();
  });
});

/** Norm and factor as the device has them. */
function clipped(flat: NativeTensor, maxNorm: number, given?: NativeTensor, losses?: NativeTensor) {
  const update = given ?? NativeTensor.from(defaultDevice(), new Float64Array(4));
  const squares = NativeTensor.onHeap(defaultDevice(), 'float64', [1]);
  sumSquaresInto(squares, flat);
  clip(update, squares, losses, maxNorm);
  const [, , norm, scale] = update.read();
  squares.dispose();
  if (!given) update.dispose();
  return { norm, scale };
}
