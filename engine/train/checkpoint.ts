import { join } from 'node:path';
import { z } from 'zod';
import { parseJson, readRegular } from '../../files.js';
import { newestWholeCheckpoint, verifyCheckpoint, withinDirectory } from '../checkpoint/directory.js';
import { loadHfWeights, saveHfWeights } from '../checkpoint/hf_model.js';
import { SafetensorsFile } from '../checkpoint/safetensors.js';
import { writeSafetensors } from '../checkpoint/safetensors_writer.js';
import { type FileDigest, writeJson } from '../checkpoint/synced_file.js';
import type { NativeTensor } from '../device/native_tensor.js';
import type { Parameters } from '../model/parameters.js';
import type { AdamW } from '../optim/adamw.js';

const STATE = 'trainer_state.json';
const OPTIMIZER = 'optimizer.safetensors';
const CONFIG = 'config.json';

const STATE_JSON = z.object({
  /** Of this file's form. */
  version: z.literal(2),
  /** Optimizer steps done. */
  step: z.int().min(0),
  total_steps: z.int().min(0),
  /** What the next training line of metrics.jsonl adds to. */
  since_line: z.object({
    steps: z.int().min(0),
    loss: z.number(),
    tokens: z.int().min(0),
    label_tokens: z.int().min(0),
    milliseconds: z.number(),
    measures: z.record(z.string(), z.number()),
  }),
  /** The name of what is minimised. */
  objective: z.string(),
  /** Identity of the tokenised data. */
  data_hash: z.string(),
  /** The model's config.json. */
  model: z.record(z.string(), z.unknown()),
  /** The resolved settings of the run. */
  config: z.record(z.string(), z.unknown()),
  /** What a bit-exact continuation depends on besides the settings. */
  machine: z.object({
    threads: z.int().min(1),
    instruction_set: z.string(),
    bf16_gemm: z.string(),
    onednn: z.string(),
    tstrain: z.string(),
    node: z.string(),
  }),
  /** What the device had chosen by trying how it computes (native/device.h): likewise. */
  chosen: z.string().default(''),
});

/** trainer_state.json of a checkpoint. The data order needs no state: it is a function of seed and epoch. */
export type TrainerState = z.infer<typeof STATE_JSON>;

/** The state as version 1 had it, which knew one objective. */
function upgraded(json: { version?: unknown; since_line?: object }): object {
  if (json.version !== 1) return json;
  const since_line = { ...json.since_line, measures: {} };
  return { ...json, version: 2, since_line, objective: 'next_token' };
}

/** The moments under the names torch's AdamW gives them. */
function moments(parameters: Parameters, optimizer: AdamW): { name: string; tensor: NativeTensor }[] {
  const trained = parameters.entries.filter(({ trainable }) => trainable);
  return trained.flatMap(({ name, shape, offset }) => [
    { name: `exp_avg.${name}`, tensor: optimizer.m.view(shape, offset) },
    { name: `exp_avg_sq.${name}`, tensor: optimizer.v.view(shape, offset) },
  ]);
}

/**
 * Writes weights, moments and state into `directory`; the caller makes it a checkpoint (checkpoint/directory.ts).
 * `signal` gives it up, within a file.
 */
export async function writeRunState(
  directory: string,
  parameters: Parameters,
  optimizer: AdamW,
  state: TrainerState,
  signal?: AbortSignal,
): Promise<FileDigest[]> {
  const digests = await saveHfWeights(directory, parameters.config, parameters, { signal });
  const tensors = moments(parameters, optimizer);
  try {
    digests.push(await writeSafetensors(join(directory, OPTIMIZER), tensors, signal));
  } finally {
    for (const { tensor } of tensors) tensor.dispose();
  }
  digests.push(await writeJson(join(directory, STATE), state));
  return digests;
}

/** A checkpoint that a run can go on from. */
export interface RunState {
  path: string;
  state: TrainerState;
}

/** The newest checkpoint that a run can go on from, if there is one, and the newer ones that were skipped. */
export async function newestRunState(
  outputDir: string,
): Promise<{ found: RunState | undefined; skipped: { path: string; why: string }[] }> {
  let found: RunState | undefined;
  const { skipped } = await newestWholeCheckpoint(outputDir, async ({ path, step }) => {
    const why = await verifyCheckpoint(path, [CONFIG, OPTIMIZER, STATE]);
    if (why !== undefined) return why;
    let json: unknown;
    try {
      json = parseJson(readRegular(join(path, STATE)), join(path, STATE));
    } catch (error) {
      return withinDirectory(path, error);
    }
    let state: TrainerState;
    try {
      state = STATE_JSON.parse(upgraded(json as object));
    } catch {
      return `${STATE} is not one of this version`;
    }
    if (state.step !== step) return `${STATE} is of step ${state.step}`;
    found = { path, state };
    return undefined;
  });
  return { found, skipped };
}

/** Reads weights and moments back, bit for bit. */
export async function readRunState(
  checkpoint: string,
  parameters: Parameters,
  optimizer: AdamW,
): Promise<void> {
  await loadHfWeights(checkpoint, parameters.config, parameters);
  const file = SafetensorsFile.open(join(checkpoint, OPTIMIZER));
  const tensors = moments(parameters, optimizer);
  try {
    for (const { name, tensor } of tensors) await file.readInto(name, tensor);
  } finally {
    for (const { tensor } of tensors) tensor.dispose();
    file.close();
  }
}
