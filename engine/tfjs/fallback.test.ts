import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, expect, it, vi } from 'vitest';
import { addon, defaultDevice } from '../device/addon.js';
import { BACKEND, fallbackCounts } from './index.js';

beforeAll(async () => {
  await tf.setBackend(BACKEND);
});

/** Native memory in use, and how many tensors TF.js and its CPU backend hold. */
function held() {
  const { heapBytes, arenaInUse } = addon.stats(defaultDevice());
  return { heapBytes, arenaInUse, tensors: tf.memory().numTensors, cpu: tf.findBackend('cpu').numDataIds() };
}

// First in this process, for TF.js greets once.
it('runs a kernel that has no native form on the CPU backend, which does not greet', () => {
  const warn = vi.spyOn(console, 'warn');
  const { PROD } = tf.env().features;
  expect(tf.tidy(() => tf.asinh([0, 1]).arraySync())).toEqual([0, expect.closeTo(Math.asinh(1), 6)]);
  expect(warn).not.toHaveBeenCalled();
  expect(tf.env().getBool('PROD')).toBe(Boolean(PROD));
  expect(fallbackCounts().get('Asinh')).toBe(1);
});

it('copies every type in and out, and leaves nothing behind', () => {
  const before = held();
  tf.tidy(() => {
    const z = tf.complex([1, 2], [3, -4]);
    expect([...tf.spectral.fft(z).dataSync()]).toEqual([3, -1, -1, 7]);
    // The parts of a reshaped tensor have the shape they were made with.
    expect([...tf.spectral.fft(tf.reshape(z, [2, 1])).dataSync()]).toEqual([1, 3, 2, -4]);
    expect(tf.string.staticRegexReplace(tf.tensor(['aba', 'ß']), 'a', 'c').dataSync()).toEqual(['cbc', 'ß']);
    expect([...tf.string.stringToHashBucketFast(['a', 'b'], 4).dataSync()]).toHaveLength(2);
    expect([...tf.unique(tf.tensor([3, 3, 1], [3], 'int32')).values.dataSync()]).toEqual([3, 1]);
    expect([...tf.logicalXor(tf.tensor([true, false]), tf.tensor([true, true])).dataSync()]).toEqual([0, 1]);
    expect([...tf.cumsum(tf.zeros([0, 3])).dataSync()]).toEqual([]);
  });
  expect(held()).toEqual(before);
});

it('leaves nothing behind when the kernel throws, either', () => {
  const before = held();
  expect(() => tf.tidy(() => tf.einsum('ij,jk->ik', tf.zeros([2, 3]), tf.zeros([4, 2])))).toThrow();
  expect(held()).toEqual(before);
});

it('touches no tensor of a program that uses the CPU backend itself', async () => {
  await tf.setBackend('cpu');
  const own = tf.tensor([1, 2, 3]);
  await tf.setBackend(BACKEND);
  const before = held();
  tf.dispose(tf.asinh([1, 2]));
  expect(held()).toEqual(before);
  await tf.setBackend('cpu');
  expect([...own.dataSync()]).toEqual([1, 2, 3]);
  own.dispose();
  await tf.setBackend(BACKEND);
});

it('says what is missing when a program removes the CPU backend', () => {
  const factory = tf.findBackendFactory('cpu');
  tf.removeBackend('cpu');
  expect(() => tf.tidy(() => tf.asinh([1]))).toThrow("TF.js's cpu backend was removed");
  const warn = vi.spyOn(console, 'warn');
  tf.registerBackend('cpu', factory, 1);
  // Another instance, which has not greeted yet.
  tf.dispose(tf.asinh([1]));
  expect(warn).not.toHaveBeenCalled();
});
