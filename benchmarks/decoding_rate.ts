import { generateMany } from '../engine/generate/generate.js';
import type { LlamaForCausalLM } from '../engine/model/llama.js';

/** Tokens/s of `texts` texts gone on with at once. Their prompts, and the first token of each, are not counted. */
export async function decodingRate(
  model: LlamaForCausalLM,
  texts: number,
  { promptTokens, newTokens }: { promptTokens: number; newTokens: number },
): Promise<number> {
  const { vocabSize } = model.parameters.config;
  const prompts = Array.from({ length: texts }, (_, text) =>
    Array.from({ length: promptTokens }, (_, t) => (text * 1009 + t * 37 + 5) % vocabSize),
  );
  const marks: number[] = [];
  await generateMany(model, prompts, {
    maxNewTokens: newTokens + 1,
    textsAtOnce: texts,
    onToken: (_, text) => {
      if (text === 0) marks.push(performance.now());
    },
  });
  return (newTokens * texts * 1000) / (marks.at(-1)! - marks[0]);
}
