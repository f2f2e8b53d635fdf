import { readFileSync } from 'node:fs';
import { addon, defaultDevice } from '../engine/device/addon.js';
import { NativeTensor } from '../engine/device/native_tensor.js';
import { parseLlamaConfig } from '../engine/model/config.js';
import type { Precision } from '../engine/model/parameters.js';
import { type Gemm, GemmTimer, gemmFlops, gemmsOf, timeRepeated } from './gemms.js';
import { type Limits, serve } from './protocol.js';
import { batchesOf, meanSizes, type Workload } from './workload.js';

// limits_runner WORKLOAD.json PRECISION THREADS: what bounds the steps of that workload on this machine. It is a
// process of its own so that its buffers do not count as memory of the training process.

const SECONDS = 0.1;
const COPY_BYTES = 256 << 20;

const [file, precision, threads] = process.argv.slice(2) as [string, Precision, string];
const workload = JSON.parse(readFileSync(file, 'utf8')) as Workload;
addon.setThreads(Number(threads));

const batches = workload.steps.flatMap((documents) => batchesOf(documents, workload));
const { tokens, labels } = meanSizes(batches);
const batchesPerStep = batches.length / workload.steps.length;
const config = parseLlamaConfig(workload.config, 'workload');
const gemms = gemmsOf(config, Math.round(tokens), Math.round(labels));
const square: Gemm = {
  name: 'square',
  m: 2048,
  n: 2048,
  k: 2048,
  transA: false,
  transB: false,
  wide: false,
  times: 1,
};
const timer = new GemmTimer(addon, [...gemms, square], precision);

const numel = COPY_BYTES / 4;
const [from, to] = [0, 1].map(() => {
  const tensor = NativeTensor.onHeap(defaultDevice(), 'float32', [numel]);
  addon.ops.fill({ y: tensor, n: numel, value: 1 });
  return tensor;
});

await serve({}, (): Limits => {
  let seconds = 0;
  for (const gemm of gemms) seconds += batchesPerStep * gemm.times * timer.time(gemm, SECONDS);
  const copy = timeRepeated(() => addon.ops.cast({ y: to, x: from, n: numel }), SECONDS, timer.settle);
  return {
    gemm_seconds: seconds,
    peak_flops: gemmFlops(square) / timer.time(square, SECONDS),
    copy_bytes_per_second: (2 * COPY_BYTES) / copy,
  };
});
