import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSafetensors } from '../../tests/read_safetensors.js';
import { addon, defaultDevice } from '../device/addon.js';
import { loadModel } from './load_model.js';

const fixtures = join(import.meta.dirname, '../../tests/fixtures/checkpoint');
const expected = readSafetensors(join(fixtures, 'expected_logits.safetensors'));

// Stated with the fixtures, for logits up to about 7: 13 times transformers' own float32 error.
const TOLERANCE = 1e-4;

describe('loadModel', () => {
  it.each([
    ['sharded', 'sharded'],
    ['bf16', 'bf16'],
    ['fp16', 'fp16'],
    ['tied-absent', 'tied'],
    ['tied-present', 'tied'],
  ])('%s gives the reference logits', async (directory, name) => {
    const { model, unused, notes } = await loadModel(join(fixtures, directory));
    expect(unused).toEqual([]);
    expect(notes).toEqual([]);
    const ids = expected.get('input_ids')!.data as Int32Array;
    const logits = model.logits({
      ids,
      targets: ids.map(() => -100),
      documentOffsets: Int32Array.of(0, ids.length),
    });
    const reference = expected.get(`${name}.logits`)!;
    expect(logits.size).toBe(reference.data.length);
    const differences = logits.floats().map((x, i) => Math.abs(x - reference.data[i]));
    expect(Math.max(...differences)).toBeLessThanOrEqual(TOLERANCE);
    logits.dispose();
    model.dispose();
  });

  it('refuses a broken one by name, and keeps nothing', async () => {
    const before = addon.stats(defaultDevice()).heapBytes;
    await expect(loadModel(join(fixtures, 'broken/missing-tensor'))).rejects.toThrow(
      'model.layers.0.mlp.down_proj.weight',
    );
    expect(addon.stats(defaultDevice()).heapBytes).toBe(before);
  });
});
