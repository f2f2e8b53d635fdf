import { sizeOf } from '../device/native_tensor.js';
import type { LlamaConfig } from './config.js';

/** One parameter in the flat buffers; offsets and sizes count elements. */
export interface LayoutEntry {
  /** The name in Hugging Face files. */
  name: string;
  shape: readonly number[];
  offset: number;
  size: number;
}

/** A stretch of the flat buffers that the optimizer treats alike. */
export interface LayoutRange {
  offset: number;
  size: number;
  /** Whether weight decay applies: to everything but norms, as Hugging Face's Trainer does. */
  decayed: boolean;
}

/**
 * Where every parameter lies in the flat buffers of weights, gradients and moments. q|k|v and gate|up are
 * adjacent, so each is one GEMM; decayed and undecayed parameters form one range each, so AdamW, clipping and
 * zeroing are calls over ranges.
 */
export interface Layout {
  entries: readonly LayoutEntry[];
  ranges: readonly LayoutRange[];
  /** Elements of a flat buffer, alignment included. */
  size: number;
  /** Elements of all parameters, without the alignment. */
  parameters: number;
}

/** Groups start at multiples of 128 elements: 256 bytes in bfloat16, 512 in float32. */
const ALIGN = 128;

/** The layout of a LlamaForCausalLM; a tied model has no `lm_head.weight`. */
export function llamaLayout(config: LlamaConfig): Layout {
  const { hiddenSize: c, intermediateSize: f, vocabSize: v, headDim: d } = config;
  const q = config.numAttentionHeads * d;
  const kv = config.numKeyValueHeads * d;
  const entries: LayoutEntry[] = [];
  let end = 0;
  const group = (...members: [string, number[]][]) => {
    end = Math.ceil(end / ALIGN) * ALIGN;
    for (const [name, shape] of members) {
      entries.push({ name, shape, offset: end, size: sizeOf(shape) });
      end += sizeOf(shape);
    }
  };
  const layer = (i: number, part: string) => `model.layers.${i}.${part}.weight`;

  group(['model.embed_tokens.weight', [v, c]]);
  for (let i = 0; i < config.numHiddenLayers; i++) {
    group(
      [layer(i, 'self_attn.q_proj'), [q, c]],
      [layer(i, 'self_attn.k_proj'), [kv, c]],
      [layer(i, 'self_attn.v_proj'), [kv, c]],
    );
    group([layer(i, 'self_attn.o_proj'), [c, q]]);
    group([layer(i, 'mlp.gate_proj'), [f, c]], [layer(i, 'mlp.up_proj'), [f, c]]);
    group([layer(i, 'mlp.down_proj'), [c, f]]);
  }
  if (!config.tieWordEmbeddings) group(['lm_head.weight', [v, c]]);
  const decayed = Math.ceil(end / ALIGN) * ALIGN;
  for (let i = 0; i < config.numHiddenLayers; i++) {
    group([layer(i, 'input_layernorm'), [c]]);
    group([layer(i, 'post_attention_layernorm'), [c]]);
  }
  group(['model.norm.weight', [c]]);
  const size = Math.ceil(end / ALIGN) * ALIGN;
  return {
    entries,
    ranges: [
      { offset: 0, size: decayed, decayed: true },
      { offset: decayed, size: size - decayed, decayed: false },
    ],
    size,
    parameters: entries.reduce((sum, e) => sum + e.size, 0),
  };
}
