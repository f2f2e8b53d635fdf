import { join } from 'node:path';
import { z } from 'zod';
import { formatPrompt } from '../data/prompt.js';
import type { LlamaConfig } from '../engine/model/config.js';
import { UserError } from '../errors.js';
import { exists, readRegular } from '../files.js';
import type { Tokenizer } from '../tokenizer/index.js';

/** The ids that a model goes on from: BOS first where the tokenizer puts it, as in training; an instruction in Alpaca's prompt, a text as it is. */
export function encodePrompt(
  tokenizer: Tokenizer,
  prompt: string | { instruction: string; input?: string },
): number[] {
  const text = typeof prompt === 'string' ? prompt : formatPrompt(prompt);
  return [...tokenizer.prefix, ...tokenizer.encode(text)];
}

/** What ends a text: named by generation_config.json, else by config.json, else by the tokenizer. */
export function eosTokenIds(
  directory: string,
  config: LlamaConfig,
  tokenizer: Tokenizer | undefined,
): number[] {
  const named = [
    generationEos(join(directory, 'generation_config.json')),
    config.raw.eos_token_id == null ? undefined : config.eosTokenId,
    tokenizer?.eosId,
  ].find((ids) => ids !== undefined);
  // A config.json without the key means transformers' default.
  return [named ?? config.eosTokenId].flat();
}

const generationConfig = z.looseObject({
  eos_token_id: z.union([z.int(), z.array(z.int())]).nullish(),
});

function generationEos(file: string): number | number[] | undefined {
  if (!exists(file)) return undefined;
  const text = readRegular(file).toString();
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new UserError(`${file}: not valid JSON: ${(error as Error).message}`);
  }
  const result = generationConfig.safeParse(json);
  if (!result.success) throw new UserError(`${file}: eos_token_id must be a token id or a list of them`);
  return result.data.eos_token_id ?? undefined;
}
