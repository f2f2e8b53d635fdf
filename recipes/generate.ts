import { formatPrompt } from '../data/prompt.js';
import type { LlamaConfig } from '../engine/model/config.js';
import type { Tokenizer, TokenStream } from '../tokenizer/index.js';
import { readGenerationConfig } from './generation_config.js';

/** The ids that a model goes on from: BOS first where the tokenizer puts it, as in training; an instruction in Alpaca's prompt, a text as it is. */
export function encodePrompt(
  tokenizer: Tokenizer,
  prompt: string | { instruction: string; input?: string },
): number[] {
  const text = typeof prompt === 'string' ? prompt : formatPrompt(prompt);
  return [...tokenizer.prefix, ...tokenizer.encode(text)];
}

/** What ends a text: any id that generation_config.json, config.json or the tokenizer names. */
export function eosTokenIds(
  directory: string,
  config: LlamaConfig,
  tokenizer: Tokenizer | undefined,
): number[] {
  const named = [
    ...(readGenerationConfig(directory)?.eos_token_id ?? []),
    ...(config.raw.eos_token_id === undefined ? [] : config.eosTokenId),
    ...(tokenizer?.eosId === undefined ? [] : [tokenizer.eosId]),
  ];
  // A config.json without the key means transformers' default.
  return named.length > 0 || config.raw.eos_token_id !== undefined ? [...new Set(named)] : config.eosTokenId;
}

/** Shown for an id without a piece, such as those of an embedding that is padded beyond the tokenizer. */
const NO_PIECE = '\uFFFD';

/** Whether the tokenizer has a piece for an id of the model. */
export function hasPiece(tokenizer: Tokenizer, id: number): boolean {
  return id < tokenizer.vocabSize;
}

/** The text of a model's ids that come one by one, without special tokens; U+FFFD for an id without a piece. */
export function textStream(tokenizer: Tokenizer): Pick<TokenStream, 'push' | 'end'> {
  const stream = tokenizer.stream({ skipSpecial: true });
  return {
    push: (id) => (hasPiece(tokenizer, id) ? stream.push(id) : stream.end() + NO_PIECE),
    end: () => stream.end(),
  };
}

/** The same of all ids together. */
export function textOf(tokenizer: Tokenizer, ids: readonly number[]): string {
  if (ids.every((id) => hasPiece(tokenizer, id))) return tokenizer.decode(ids, { skipSpecial: true });
  const stream = textStream(tokenizer);
  return ids.map((id) => stream.push(id)).join('') + stream.end();
}
