import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSafetensors } from '../../tests/read_safetensors.js';
import { addon, defaultDevice } from '../device/addon.js';
import { sizeOf } from '../device/native_tensor.js';
import { readLlamaConfig } from '../model/config.js';
import { causalLmSpecs } from '../model/specs.js';
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

  it('refuses a sparse file of more weights than there is memory, whatever is allocated for them', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tstrain-sparse-'));
    try {
      const config = {
        vocab_size: 2,
        hidden_size: 2 ** 18,
        intermediate_size: 2 ** 18,
        num_hidden_layers: 1,
        num_attention_heads: 128,
      };
      writeFileSync(join(directory, 'config.json'), JSON.stringify(config));
      let end = 0;
      const entries = causalLmSpecs(readLlamaConfig(directory))
        .flat()
        .map(({ name, shape }) => {
          const begin = end;
          end += 2 * sizeOf(shape);
          return [name, { dtype: 'BF16', shape, data_offsets: [begin, end] }] as const;
        });
      const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(header.length));
      const file = join(directory, 'model.safetensors');
      writeFileSync(file, Buffer.concat([length, header]));
      truncateSync(file, 8 + header.length + end);
      await expect(loadModel(directory)).rejects.toThrow(
        /the weights of this model take 1792\.0 GiB of memory, and .* are available; in bf16 they take half/,
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
