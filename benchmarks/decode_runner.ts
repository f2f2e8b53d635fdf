import { loadModel } from '../engine/checkpoint/load_model.js';
import { addon } from '../engine/device/addon.js';
import { residentMemory } from '../engine/machine/memory.js';
import type { Precision } from '../engine/model/parameters.js';
import { decodingRate } from './decoding_rate.js';

// decode_runner MODEL PRECISION THREADS TEXTS PROMPT NEW: one round of one side of decode.ts, in a process of its own,
// whose growth is what the model and its texts take.

export interface DecodeRound {
  /** Of the tokens after the first of each text: the prompts are not counted. */
  tokens_per_second: number;
  /** What the process has grown by when the model is there, over its parameters. */
  bytes_per_parameter: number;
  /** The most that the process had in memory, in MiB. */
  peak_mib: number;
}

const [directory, precision, ...numbers] = process.argv.slice(2) as [string, Precision, ...string[]];
const [threads, texts, promptTokens, newTokens] = numbers.map(Number);
addon.setThreads(threads);
const before = residentMemory('VmRSS');
const { model } = await loadModel(directory, { precision });
const { layout } = model.parameters;
const grown = residentMemory('VmRSS') - before;

const round: DecodeRound = {
  tokens_per_second: await decodingRate(model, texts, { promptTokens, newTokens }),
  bytes_per_parameter: grown / layout.size,
  peak_mib: residentMemory('VmHWM') / 2 ** 20,
};
console.log(JSON.stringify(round));
