import type { Writable } from 'node:stream';
import { type Command, InvalidArgumentError } from 'commander';
import { loadModel } from '../engine/checkpoint/load_model.js';
import { addon } from '../engine/device/addon.js';
import { defaultThreads, isThreadCount, THREAD_COUNT } from '../engine/machine/threads.js';
import type { LlamaForCausalLM } from '../engine/model/llama.js';
import { plainLine, UserError } from '../errors.js';
import { expandHome } from '../recipes/home.js';
import { pathFault } from '../recipes/path_fault.js';

/** The options of every command that runs a saved model. */
export interface ModelOptions {
  model: string;
  bf16?: boolean;
  threads?: number;
}

export function addModelOptions(command: Command): Command {
  return command
    .requiredOption(
      '--model <dir>',
      'Hugging Face directory: config.json, safetensors, tokenizer.json',
      expandHome,
    )
    .option('--bf16', 'bfloat16 weights and activations (default: float32)')
    .option(
      '--threads <n>',
      'threads to compute with (default: TSTRAIN_NUM_THREADS, or the physical cores)',
      numberOption(THREAD_COUNT, isThreadCount),
    );
}

/** @throws UserError unless --model names a directory */
export function checkModelDirectory({ model }: ModelOptions): void {
  const fault = pathFault(model, 'directory');
  if (fault !== undefined) throw new UserError(`--model: ${fault}`);
}

/** Loads the model that the options name; what is odd about it goes to `stderr`. */
export async function openModel(
  { model: directory, bf16, threads }: ModelOptions,
  stderr: Writable,
): Promise<LlamaForCausalLM> {
  addon.setThreads(threads ?? defaultThreads());
  const { model, unused, notes } = await loadModel(directory, { precision: bf16 ? 'bf16' : 'fp32' });
  for (const note of notes) stderr.write(`${plainLine(note)}\n`);
  if (unused.length > 0)
    stderr.write(
      `${plainLine(`warning: ${directory} holds ${unused.length} tensors that a LLaMA has no use for, such as ${unused[0]}`)}\n`,
    );
  return model;
}

/** Reads the number of an option; `expected` completes "expected …" in the error. */
export function numberOption(expected: string, inRange: (x: number) => boolean): (text: string) => number {
  return (text) => {
    const x = Number(text);
    if (text.trim() === '' || !inRange(x)) throw new InvalidArgumentError(`expected ${expected}`);
    return x;
  };
}
