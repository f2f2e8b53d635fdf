import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSafetensors } from './safetensors.js';

const FIXTURES = join(import.meta.dirname, '../../tests/fixtures/checkpoint');
const bitsOf = (data: Float32Array | Int32Array) =>
  new Uint32Array(data.buffer, data.byteOffset, data.length);

describe('readSafetensors', () => {
  it.each(['fp16', 'bf16'])('widens every special %s value bit by bit', (format) => {
    const values = readSafetensors(join(FIXTURES, 'half_values.safetensors'));
    const widened = bitsOf(values.get(format)!.data);
    expect(widened.length).toBeGreaterThan(0);
    expect(widened).toEqual(bitsOf(values.get(`${format}_as_f32`)!.data));
  });
});
