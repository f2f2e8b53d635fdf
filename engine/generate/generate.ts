import { UserError } from '../../errors.js';
import type { LlamaForCausalLM } from '../model/llama.js';
import { checkIds, Decoder } from './decoder.js';
import { chooseToken, type Sampling } from './sampling.js';

export interface GenerateOptions {
  /** Most tokens to add to each text. */
  maxNewTokens: number;
  /** Any of these ends a text. */
  eosTokenIds?: readonly number[];
  /** Default: greedy. */
  sampling?: Sampling;
  /** Called with each new id as soon as it is chosen, and with the index of its prompt (0 where there is one). */
  onToken?: (id: number, prompt: number) => void;
}

export interface GenerateManyOptions extends GenerateOptions {
  /** Most texts that are worked on at once: they share the passes over the weights, and all take memory. Default 16. */
  textsAtOnce?: number;
}

/**
 * Continues a text, token by token. The ids returned are the new ones; when the text ended by itself the last of
 * them is the EOS, as transformers' `generate` has it.
 * @throws UserError when the prompt is empty or has ids outside the vocabulary, and when logits are not numbers
 */
export async function generate(
  model: LlamaForCausalLM,
  promptIds: ArrayLike<number>,
  options: GenerateOptions,
): Promise<{ ids: number[] }> {
  const [continued] = await generateMany(model, [promptIds], options);
  return continued;
}

/**
 * Continues many texts at once, each as {@link generate} would: the same choices, but that arithmetic on several rows
 * may round otherwise. What is drawn for a text depends on the seed and the index of its prompt. A text that ends
 * makes room for the next prompt.
 * @throws UserError as generate()
 */
export async function generateMany(
  model: LlamaForCausalLM,
  prompts: readonly ArrayLike<number>[],
  { maxNewTokens, eosTokenIds = [], sampling = {}, onToken, textsAtOnce = 16 }: GenerateManyOptions,
): Promise<{ ids: number[] }[]> {
  if (!(textsAtOnce >= 1)) throw new UserError(`textsAtOnce is ${textsAtOnce}, it must be 1 or more`);
  const several = prompts.length > 1;
  prompts.forEach((ids, prompt) => {
    checkIds(ids, model.parameters.config.vocabSize, several ? `prompt ${prompt}` : 'the prompt');
  });
  const texts = prompts.map((ids) => Array.from(ids));
  const newIds = prompts.map((): number[] => []);
  const waiting = maxNewTokens > 0 ? [...prompts.keys()] : [];
  let working: { prompt: number; text: number }[] = [];
  const decoder = new Decoder(model);
  try {
    while (waiting.length + working.length > 0) {
      for (const prompt of waiting.splice(0, textsAtOnce - working.length))
        working.push({ prompt, text: decoder.add() });
      const logits = decoder.append(
        working.map(({ prompt, text }) => ({
          text,
          ids: Int32Array.from(newIds[prompt].length === 0 ? texts[prompt] : texts[prompt].slice(-1)),
        })),
      );
      working.forEach(({ prompt }, i) => {
        const [text, fresh] = [texts[prompt], newIds[prompt]];
        if (hasNaN(logits[i]))
          throw new UserError(
            `the logits of token ${text.length}${several ? ` of text ${prompt}` : ''} are not numbers: ` +
              'the weights of this model overflow',
          );
        const id = chooseToken(logits[i], text, sampling, { text: prompt, step: fresh.length });
        text.push(id);
        fresh.push(id);
        onToken?.(id, prompt);
      });
      working = working.filter(({ prompt, text }) => {
        const fresh = newIds[prompt];
        const ended = fresh.length === maxNewTokens || eosTokenIds.includes(fresh[fresh.length - 1]);
        if (ended) decoder.remove(text);
        return !ended;
      });
      // The event loop hears signals, and that nobody reads any more.
      await new Promise(setImmediate);
    }
  } finally {
    decoder.dispose();
  }
  return newIds.map((ids) => ({ ids }));
}

/** @throws UserError when a prompt is empty or has ids outside the vocabulary */
export function checkPrompt(ids: readonly number[], vocabSize: number): void {
  checkIds(ids, vocabSize, 'the prompt');
}

// A callback for each logit shows in the time of a step of many texts.
function hasNaN(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (Number.isNaN(values[i])) return true;
  return false;
}
