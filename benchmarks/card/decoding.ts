import { LlamaForCausalLM } from '../../engine/model/llama.js';
import { Parameters } from '../../engine/model/parameters.js';
import { decodingRate } from '../decoding_rate.js';
import { configOf, type LARGE_SHAPES, type SHAPES } from '../shapes.js';

// node dist/benchmarks/card/decoding.js SHAPE TOKENS: tokens/s that texts are gone on with, by a model in bf16 with random
// weights. A line of JSON.

/** Tokens/s of all texts together, by how many there are. */
export type Decoded = Record<string, number>;

const [, , shape, tokens] = process.argv;
const config = configOf(shape as keyof typeof SHAPES | keyof typeof LARGE_SHAPES);
const parameters = new Parameters(config, 'cuda', 'bf16');
parameters.initialize(1);
const model = new LlamaForCausalLM(parameters);
const decoded: Decoded = {};
for (const texts of [1, 16]) {
  const rate = () => decodingRate(model, texts, { promptTokens: 64, newTokens: Number(tokens) - 1 });
  // Kernels are loaded, and products tried, the first time.
  await rate();
  decoded[texts] = await rate();
}
model.dispose();
console.log(JSON.stringify(decoded));
