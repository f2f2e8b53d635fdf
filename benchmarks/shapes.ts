import { type LlamaConfig, parseLlamaConfig } from '../engine/model/config.js';

/** The models that are measured, as config.json keys; the embedding is also the head. */
export const SHAPES = {
  '260k': shape({ hidden: 64, ffn: 172, layers: 5, heads: 8, kvHeads: 4, vocab: 512 }),
  '15m': shape({ hidden: 288, ffn: 768, layers: 6, heads: 6, kvHeads: 6, vocab: 32000 }),
  '110m': shape({ hidden: 768, ffn: 2048, layers: 12, heads: 12, kvHeads: 12, vocab: 32000 }),
};

export type ShapeName = keyof typeof SHAPES;

/** Those that take a card: TinyLlama-1.1B, Llama-2-7B, Meta-Llama-3-8B, Llama-2-13B. */
export const LARGE_SHAPES = {
  '1.1b': large({ hidden: 2048, ffn: 5632, layers: 22, heads: 32, kvHeads: 4, vocab: 32000 }),
  '7b': large({ hidden: 4096, ffn: 11008, layers: 32, heads: 32, kvHeads: 32, vocab: 32000 }),
  '8b': large({ hidden: 4096, ffn: 14336, layers: 32, heads: 32, kvHeads: 8, vocab: 128256 }),
  '13b': large({ hidden: 5120, ffn: 13824, layers: 40, heads: 40, kvHeads: 40, vocab: 32000 }),
};

/** The model of a shape, as the engine takes it. */
export function configOf(name: ShapeName | keyof typeof LARGE_SHAPES): LlamaConfig {
  return parseLlamaConfig({ ...SHAPES, ...LARGE_SHAPES }[name], `shape ${name}`);
}

interface Sizes {
  hidden: number;
  ffn: number;
  layers: number;
  heads: number;
  kvHeads: number;
  vocab: number;
}

function shape({ hidden, ffn, layers, heads, kvHeads, vocab }: Sizes) {
  return {
    model_type: 'llama',
    vocab_size: vocab,
    hidden_size: hidden,
    intermediate_size: ffn,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    max_position_embeddings: 2048,
    tie_word_embeddings: true,
  };
}

function large(sizes: Sizes) {
  return { ...shape(sizes), tie_word_embeddings: false };
}
