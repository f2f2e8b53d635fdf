import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it, vi } from 'vitest';
import { addon, defaultDevice } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';
import { axpby } from '../ops/elementwise.js';
import {
  adopt,
  BACKEND,
  fallbackCounts,
  makeOutput,
  NativeBackend,
  nativeOf,
  tensorFrom,
  tensorOf,
} from './index.js';

await tf.setBackend(BACKEND);

/** Bytes of native memory in use, wherever they come from. */
function nativeBytes(): number {
  const { heapBytes, arenaInUse } = addon.stats(defaultDevice());
  return heapBytes + arenaInUse;
}

describe('TF.js tensors on native memory', () => {
  it('reads back every dtype', async () => {
    tf.engine().startScope();
    expect(await tf.tensor([1.5, -2]).data()).toEqual(Float32Array.of(1.5, -2));
    expect(tf.tensor([1, -2], [2], 'int32').dataSync()).toEqual(Int32Array.of(1, -2));
    expect(tf.tensor([true, false]).dataSync()).toEqual(Uint8Array.of(1, 0));
    expect(tf.tensor(['a', 'ß']).dataSync()).toEqual(['a', 'ß']);
    expect([...tf.complex([1, 2], [3, 4]).dataSync()]).toEqual([1, 3, 2, 4]);
    expect([...tf.zeros([0, 3]).dataSync()]).toEqual([]);
    tf.engine().endScope();
  });

  it('shares one buffer among clones and reshapes, and gives it back with the last of them', () => {
    const before = nativeBytes();
    const { numDataBuffers } = tf.memory();
    const x = tf.tensor(new Float32Array(1000));
    const y = tf.tidy(() => tf.reshape(tf.clone(x), [10, 100]));
    expect(tf.memory().numDataBuffers).toBe(numDataBuffers + 1);
    expect(nativeBytes()).toBe(before + 4000);
    x.dispose();
    expect(y.dataSync()).toHaveLength(1000);
    y.dispose();
    expect(nativeBytes()).toBe(before);
  });

  it('data() gives what was there when it was asked for, whatever happens to the tensor meanwhile', async () => {
    const before = nativeBytes();
    const x = tf.tensor([1, 2, 3]);
    const doubled = tf.mul(x, 2);
    const z = tf.complex([1, 2], [3, 4]);
    const native = NativeTensor.from(defaultDevice(), Float32Array.of(1, 2));
    const parameter = tensorOf(native);
    const asked = [x, doubled, z, parameter].map((tensor) => tensor.data());
    tf.dispose([x, doubled, z, parameter]);
    native.write(Float32Array.of(8, 9));
    const values = await Promise.all(asked);
    expect(values.map((array) => [...array])).toEqual([
      [1, 2, 3],
      [2, 4, 6],
      [1, 3, 2, 4],
      [1, 2],
    ]);
    native.dispose();
    expect(nativeBytes()).toBe(before);
  });

  it('gives back what is left when the backend itself goes', () => {
    const before = nativeBytes();
    const backend = new NativeBackend();
    backend.write(new Float32Array(10), [10], 'float32');
    const { info } = backend.output([20], 'int32');
    expect(nativeBytes()).toBeGreaterThan(before);
    backend.dispose();
    backend.disposeData(info.dataId);
    expect(nativeBytes()).toBe(before);
  });

  it('names the kernels that fall back, once each, when TSTRAIN_DEBUG=1', () => {
    const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    vi.stubEnv('TSTRAIN_DEBUG', '1');
    tf.tidy(() => tf.asinh(tf.asinh([1, 2])));
    tf.tidy(() => tf.exp([1, 2]));
    const lines = write.mock.calls.map(([line]) => line);
    vi.restoreAllMocks();
    vi.unstubAllEnvs();
    expect(lines).toEqual([
      "tstrain: kernel Asinh has no native form for these inputs; it runs on TF.js's CPU backend\n",
    ]);
  });

  it('takes over the tensors of another backend, and gives them back', async () => {
    const before = nativeBytes();
    await tf.setBackend('cpu');
    const x = tf.tensor([1, 2, 3]);
    await tf.setBackend(BACKEND);
    const y = tf.add(x, 1);
    await tf.setBackend('cpu');
    expect([...tf.add(y, 1).dataSync()]).toEqual([3, 4, 5]);
    await tf.setBackend(BACKEND);
    x.dispose();
    y.dispose();
    expect(nativeBytes()).toBe(before);
  });
});

describe('memory of the engine as a tf.Tensor', () => {
  it('is looked at, not copied; clones keep the values they had', () => {
    const weight = NativeTensor.from(defaultDevice(), Float32Array.of(1, 2, 3, 4), [2, 2]);
    const view = tensorOf(weight);
    const clone = tf.clone(view);
    const flat = tf.reshape(view, [4]);
    const same = tf.cast(view, 'float32');
    weight.write(Float32Array.of(5, 6, 7, 8));
    expect([...view.dataSync()]).toEqual([5, 6, 7, 8]);
    for (const kept of [clone, flat, same]) expect([...kept.dataSync()]).toEqual([1, 2, 3, 4]);
    tf.dispose([view, clone, flat, same]);
    expect([...weight.floats()]).toEqual([5, 6, 7, 8]);
    weight.dispose();
  });

  it('can be read as long as the tf.Tensor lives', () => {
    const before = nativeBytes();
    const activation = NativeTensor.from(defaultDevice(), Float32Array.of(1, 2));
    const view = tensorOf(activation);
    activation.dispose();
    expect([...view.dataSync()]).toEqual([1, 2]);
    view.dispose();
    expect(nativeBytes()).toBe(before);
  });

  it('survives a kernel that falls back', () => {
    const weight = NativeTensor.from(defaultDevice(), Float32Array.of(0, 1));
    const view = tensorOf(weight);
    const times = fallbackCounts().get('Erf') ?? 0;
    tf.tidy(() => tf.erf(view));
    expect(fallbackCounts().get('Erf')).toBe(times + 1);
    expect([...view.dataSync()]).toEqual([0, 1]);
    view.dispose();
    expect([...weight.floats()]).toEqual([0, 1]);
    weight.dispose();
  });

  it('looks like float32 when it is bfloat16', () => {
    const weight = NativeTensor.onHeap(defaultDevice(), 'bfloat16', [3]);
    weight.write(Float32Array.of(1, -2, 0.5));
    const view = tensorOf(weight);
    expect(view.dtype).toBe('float32');
    const sum = tf.add(view, tf.scalar(1));
    expect([...sum.dataSync()]).toEqual([2, -1, 1.5]);
    tf.dispose([view, sum]);
    weight.dispose();
  });

  it('goes the other way round, too', () => {
    const before = nativeBytes();
    const x = tf.tensor([1, 2, 3, 4, 5, 6], [2, 3]);
    expect([...nativeOf(x, [6]).floats()]).toEqual([1, 2, 3, 4, 5, 6]);
    expect(() => nativeOf(x, [4])).toThrow('[2,3] cannot take the shape [4]');
    const { info, native } = makeOutput([2, 3]);
    axpby(native, 2, nativeOf(x));
    const twice = tensorFrom(info);
    expect(twice.arraySync()).toEqual([[2, 4, 6], [8, 10, 12]]); // biome-ignore format: rows
    const adopted = tensorFrom(adopt(NativeTensor.from(defaultDevice(), Int32Array.of(7))));
    expect(adopted.dtype).toBe('int32');
    tf.dispose([x, twice, adopted]);
    expect(nativeBytes()).toBe(before);
  });
});
