import { generateMany } from '../../engine/generate/generate.js';
import { LlamaForCausalLM } from '../../engine/model/llama.js';
import { Parameters } from '../../engine/model/parameters.js';
import { configOf, type LARGE_SHAPES, type SHAPES } from '../shapes.js';

// node dist/benchmarks/card/decoding.js SHAPE TOKENS: tokens/s that texts are gone on with, by a model in bf16 with random
// weights. A line of JSON.

/** Tokens/s of all texts together, by how many there are. The prompts, and the first token of each text, are not counted. */
export type Decoded = Record<string, number>;

const PROMPT_TOKENS = 64;

const [, , shape, tokens] = process.argv;
const config = configOf(shape as keyof typeof SHAPES | keyof typeof LARGE_SHAPES);
const parameters = new Parameters(config, 'cuda', 'bf16');
parameters.initialize(1);
const model = new LlamaForCausalLM(parameters);
const decoded: Decoded = {};
for (const texts of [1, 16]) {
  const prompts = Array.from({ length: texts }, (_, text) =>
    Array.from({ length: PROMPT_TOKENS }, (_, t) => (text * 1009 + t * 37 + 5) % config.vocabSize),
  );
  // Kernels are loaded, and products tried, the first time.
  let rate = 0;
  for (let time = 0; time < 2; time++) {
    const marks: number[] = [];
    await generateMany(model, prompts, {
      maxNewTokens: Number(tokens),
      textsAtOnce: texts,
      onToken: (_, text) => {
        if (text === 0) marks.push(performance.now());
      },
    });
    rate = ((marks.length - 1) * texts * 1000) / (marks.at(-1)! - marks[0]);
  }
  decoded[texts] = rate;
}
model.dispose();
console.log(JSON.stringify(decoded));
