import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Random } from '../../tests/op_cases.js';
import { readSafetensors } from '../../tests/read_safetensors.js';
import { TINY } from '../../tests/tiny_run.js';
import { loadHfWeights, saveHfWeights } from '../checkpoint/hf_model.js';
import { loadModel } from '../checkpoint/load_model.js';
import { addon, defaultDevice } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';
import { fill, fillNormal } from '../ops/elementwise.js';
import { parseLlamaConfig } from './config.js';
import { Parameters } from './parameters.js';
import { SplitTensor } from './split_tensor.js';

const device = defaultDevice();
const heap = (dtype: 'float32' | 'bfloat16' | 'int16', size: number) =>
  NativeTensor.onHeap(device, dtype, [size]);
const bits = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);

/** 1 + 2⁻⁸, half way between two bfloat16, of which the lower one is even; and others, ties among them. */
function values(size: number): Float32Array {
  const random = new Random(size);
  const floats = Float32Array.from({ length: size }, () => random.normal());
  const patterns = bits(floats);
  for (let i = 0; i < size; i += 3) patterns[i] = (patterns[i] & 0xffff_0000) | 0x8000;
  floats[0] = 1 + 2 ** -8;
  return floats;
}

describe('a split tensor', () => {
  it('gives back what was written, whole, in pieces and by views', () => {
    const split = new SplitTensor(heap('bfloat16', 1000), heap('int16', 1000));
    const given = values(1000);
    split.write(given.subarray(0, 300));
    split.write(given.subarray(300), 300);
    expect(bits(split.floats())).toEqual(bits(given));
    expect(split.high.floats()[0]).toBe(1 + 2 ** -7);
    expect([split.dtype, split.bytes]).toEqual(['float32', 4000]);
    const piece = new Float32Array(17);
    split.copyRaw(new Uint8Array(piece.buffer), 500);
    expect(bits(piece)).toEqual(bits(given.slice(500, 517)));
    const view = split.view([2, 5], 40);
    view.write(given.subarray(0, 10));
    expect(bits(split.floats().slice(40, 50))).toEqual(bits(given.slice(0, 10)));
    view.dispose();
    split.dispose();
  });

  it('without a remainder holds what bfloat16 does', () => {
    const rounded = new SplitTensor(heap('bfloat16', 3));
    rounded.write(Float32Array.of(1 + 2 ** -8, -3, 2 ** -140));
    expect([...rounded.floats()]).toEqual([1 + 2 ** -7, -3, 0]);
    expect([rounded.dtype, rounded.bytes]).toEqual(['bfloat16', 6]);
    rounded.dispose();
  });

  it('is filled a piece at a time, with the numbers of a whole tensor', () => {
    const size = 2 ** 22 + 5;
    const split = new SplitTensor(heap('bfloat16', size), heap('int16', size));
    const whole = heap('float32', size);
    fillNormal(whole, { seed: 1, stream: 2, std: 1 });
    addon.resetStats(device);
    const { heapBytes } = addon.stats(device);
    split.fill((piece, place) => fillNormal(piece, { seed: 1, stream: 2, place, std: 1 }));
    expect(addon.stats(device).heapHighWater - heapBytes).toBeLessThanOrEqual(16 * 2 ** 20);
    expect(Buffer.compare(Buffer.from(split.floats().buffer), Buffer.from(whole.floats().buffer))).toBe(0);
    split.dispose();
    whole.dispose();
  });
});

describe('a model in bf16', () => {
  const config = parseLlamaConfig(TINY, 'tiny');

  it('is in its files as float32, and comes back from them as it was, frozen or not', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tstrain-split-'));
    try {
      const parameters = new Parameters(config, device, 'bf16');
      parameters.initialize(3);
      const embedding = parameters.tensor('model.embed_tokens.weight');
      const given = values(embedding.size);
      embedding.write(given);
      embedding.dispose();
      await saveHfWeights(directory, config, parameters);
      const saved = readSafetensors(join(directory, 'model.safetensors'));
      expect(bits(saved.get('model.embed_tokens.weight')!.data as Float32Array)).toEqual(bits(given));

      const again = new Parameters(config, device, 'bf16');
      fill(again.flat, 7);
      await loadHfWeights(directory, config, again);
      for (const { name } of parameters.entries) {
        const [a, b] = [parameters, again].map((model) => {
          const tensor = model.tensor(name);
          const floats = tensor.floats();
          tensor.dispose();
          return floats;
        });
        expect(bits(b), name).toEqual(bits(a));
      }
      const { model } = await loadModel(directory, { precision: 'bf16' });
      const loaded = model.parameters.tensor('model.embed_tokens.weight');
      const { offset } = parameters.entries.find(({ name }) => name === 'model.embed_tokens.weight')!;
      expect(loaded.floats()).toEqual(parameters.flat.floats().slice(offset, offset + given.length));
      for (const t of [loaded, model, again, parameters]) t.dispose();
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
