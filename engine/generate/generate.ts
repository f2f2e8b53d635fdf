import { UserError } from '../../errors.js';
import type { LlamaForCausalLM } from '../model/llama.js';
import { Decoder } from './decoder.js';
import { chooseToken, type Sampling } from './sampling.js';

export interface GenerateOptions {
  /** Most tokens to add. */
  maxNewTokens: number;
  /** Any of these ends the text. */
  eosTokenIds?: readonly number[];
  /** Default: greedy. */
  sampling?: Sampling;
  /** Called with each new id as soon as it is chosen. */
  onToken?: (id: number) => void;
}

/**
 * Continues a text, token by token. The ids returned are the new ones; when the text ended by itself the last of
 * them is the EOS, as transformers' `generate` has it.
 * @throws UserError when the prompt is empty or has ids outside the vocabulary, and when logits are not numbers
 */
export async function generate(
  model: LlamaForCausalLM,
  promptIds: ArrayLike<number>,
  { maxNewTokens, eosTokenIds = [], sampling = {}, onToken }: GenerateOptions,
): Promise<{ ids: number[] }> {
  const text = Array.from(promptIds);
  checkPrompt(text, model.parameters.config.vocabSize);
  const ids: number[] = [];
  const decoder = new Decoder(model);
  try {
    while (ids.length < maxNewTokens && !eosTokenIds.includes(ids[ids.length - 1])) {
      const logits = decoder.append(Int32Array.from(ids.length === 0 ? text : text.slice(-1)));
      if (logits.some(Number.isNaN))
        throw new UserError(
          `the logits of token ${text.length} are not numbers: the weights of this model overflow`,
        );
      const id = chooseToken(logits, text, sampling, ids.length);
      text.push(id);
      ids.push(id);
      onToken?.(id);
      // The event loop hears signals, and that nobody reads any more.
      await new Promise(setImmediate);
    }
  } finally {
    decoder.dispose();
  }
  return { ids };
}

/** @throws UserError when a prompt is empty or has ids outside the vocabulary */
export function checkPrompt(ids: readonly number[], vocabSize: number): void {
  if (ids.length === 0)
    throw new UserError('the prompt is empty: a model needs at least one id to go on from');
  const position = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (position >= 0)
    throw new UserError(
      `the prompt's id ${ids[position]} (number ${position + 1} of ${ids.length}) is outside the model's ` +
        `vocabulary of ${vocabSize} (ids 0 to ${vocabSize - 1})`,
    );
}
