import { readFileSync } from 'node:fs';
import { addon, defaultDevice } from '../engine/device/addon.js';
import { residentMemory } from '../engine/machine/memory.js';
import type { Precision } from '../engine/model/parameters.js';
import { type OwnReady, serve } from './protocol.js';
import { planMemory, Training } from './training.js';
import type { Workload } from './workload.js';

// step_runner WORKLOAD.json PRECISION THREADS: this project's side of a comparison.

const [file, precision, threads] = process.argv.slice(2) as [string, Precision, string];
const workload = JSON.parse(readFileSync(file, 'utf8')) as Workload;
addon.setThreads(Number(threads));
const plan = await planMemory(workload, precision);
const before = residentMemory('VmRSS') / 2 ** 20;

const training = new Training(workload, precision, defaultDevice());
const first = await training.steps(1);
await training.steps(workload.warmupSteps - 1);

const info = addon.info();
const ready: OwnReady = {
  parameters: training.parameters,
  first_loss: first.loss,
  threads: info.threads,
  versions: { node: process.versions.node, onednn: info.onednn },
  instruction_set: info.instructionSet,
  bf16_gemm: info.bf16Gemm,
  rss_before_mib: before,
  plan,
};
await serve(ready, () => training.round());
