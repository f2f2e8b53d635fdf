import type { LlamaConfig } from './config.js';
import type { ParameterGroup, ParameterSpec } from './layout.js';

/** Which parameters of a model are trained, by name. */
export type Trainable = (name: string) => boolean;

const all: Trainable = () => true;
/** Of a model that only computes. */
export const none: Trainable = () => false;

export const EMBEDDING = 'model.embed_tokens.weight';
export const FINAL_NORM = 'model.norm.weight';
export const HEAD = 'lm_head.weight';
export const SCORE = 'score.weight';

/** The names of the parameters of a block, those that are one matrix together. */
export function blockNames(layer: number) {
  const of = (part: string) => `model.layers.${layer}.${part}.weight`;
  return {
    inputNorm: [of('input_layernorm')],
    qkv: [of('self_attn.q_proj'), of('self_attn.k_proj'), of('self_attn.v_proj')],
    o: [of('self_attn.o_proj')],
    postAttentionNorm: [of('post_attention_layernorm')],
    gateUp: [of('mlp.gate_proj'), of('mlp.up_proj')],
    down: [of('mlp.down_proj')],
  };
}

/** The bias that goes with a weight. */
export function biasOf(weight: string): string {
  return weight.replace(/weight$/, 'bias');
}

/** The parameters of a LlamaForCausalLM; a tied model has no `lm_head.weight`. */
export function causalLmSpecs(config: LlamaConfig, trainable: Trainable = all): ParameterGroup[] {
  const head = config.tieWordEmbeddings ? [] : [[HEAD, [config.vocabSize, config.hiddenSize]] as Named];
  return llamaSpecs(config, head, trainable);
}

/** The parameters of a LlamaForSequenceClassification with one label: a score for a text, no language-model head. */
export function scoreSpecs(config: LlamaConfig, trainable: Trainable = all): ParameterGroup[] {
  return llamaSpecs(config, [[SCORE, [1, config.hiddenSize]]], trainable);
}

type Named = [name: string, shape: number[]];

/**
 * Matrices, norms, biases. They start as in Hugging Face's initialisation: matrices from N(0, initializer_range²), norms
 * from 1, biases from 0.
 */
function llamaSpecs(config: LlamaConfig, head: Named[], trainable: Trainable): ParameterGroup[] {
  const { hiddenSize: c, intermediateSize: f, vocabSize: v, headDim: d } = config;
  const q = config.numAttentionHeads * d;
  const kv = config.numKeyValueHeads * d;
  const matrices = (names: string[], ...shapes: number[][]): ParameterSpec[] =>
    names.map((name, i) => ({
      name,
      shape: shapes[i],
      initial: { normal: config.initializerRange },
      decayed: true,
      trainable: trainable(name),
      ...(name === EMBEDDING || name === HEAD ? { isVocabulary: true } : {}),
    }));
  const norm = ([name]: string[]): ParameterSpec[] => [
    { name, shape: [c], initial: { constant: 1 }, decayed: false, trainable: trainable(name) },
  ];
  const biases = (names: string[], ...sizes: number[]): ParameterSpec[] =>
    names.map(biasOf).map((name, i) => ({
      name,
      shape: [sizes[i]],
      initial: { constant: 0 },
      decayed: false,
      trainable: trainable(name),
    }));
  const blocks = Array.from({ length: config.numHiddenLayers }, (_, i) => blockNames(i));
  return [
    matrices([EMBEDDING], [v, c]),
    ...blocks.flatMap(({ qkv, o, gateUp, down }) => [
      matrices(qkv, [q, c], [kv, c], [kv, c]),
      matrices(o, [c, q]),
      matrices(gateUp, [f, c], [f, c]),
      matrices(down, [c, f]),
    ]),
    ...head.map(([name, shape]) => matrices([name], shape)),
    ...blocks.flatMap(({ inputNorm, postAttentionNorm }) => [norm(inputNorm), norm(postAttentionNorm)]),
    norm([FINAL_NORM]),
    ...blocks.flatMap(({ qkv, o, gateUp, down }) => [
      ...(config.attentionBias ? [biases(qkv, q, kv, kv), biases(o, c)] : []),
      ...(config.mlpBias ? [biases(gateUp, f, f), biases(down, c)] : []),
    ]),
  ];
}
