import { join } from 'node:path';
import { z } from 'zod';
import { checkDepth, UserError } from '../../errors.js';
import { parseJson, readRegular } from '../../files.js';

/** How positions turn queries and keys: RoPE (arXiv 2104.09864) and its scalings, as Hugging Face names them. */
export type RopeConfig =
  | { type: 'default'; theta: number }
  | { type: 'linear'; theta: number; factor: number }
  /** transformers scales from max_position_embeddings, whatever original_max_position_embeddings says. */
  | { type: 'dynamic'; theta: number; factor: number }
  | {
      type: 'llama3';
      theta: number;
      factor: number;
      lowFreqFactor: number;
      highFreqFactor: number;
      originalMaxPositionEmbeddings: number;
    }
  | {
      type: 'yarn';
      theta: number;
      factor: number;
      originalMaxPositionEmbeddings: number;
      betaFast: number;
      betaSlow: number;
      /** Unset: computed from factor, mscale and mscaleAllDim. */
      attentionFactor?: number;
      mscale?: number;
      mscaleAllDim?: number;
      truncate: boolean;
    };

/** The shape of a LLaMA model, with every default filled in. */
export interface LlamaConfig {
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  numHiddenLayers: number;
  numAttentionHeads: number;
  numKeyValueHeads: number;
  headDim: number;
  maxPositionEmbeddings: number;
  rmsNormEps: number;
  initializerRange: number;
  tieWordEmbeddings: boolean;
  /** Whether q, k, v and o have a bias; likewise gate, up and down. */
  attentionBias: boolean;
  mlpBias: boolean;
  rope: RopeConfig;
  bosTokenId?: number;
  /** Any of these ends a text; empty when the model has none. */
  eosTokenId: number[];
  padTokenId?: number;
  /** The JSON object as it was read, so that keys of no concern here survive a round trip. */
  raw: Record<string, unknown>;
  /** A line for each value that is not what is computed with, though it comes to the same. */
  notes: string[];
}

const count = z
  .number('must be a number')
  .int('must be a whole number')
  .positive('must be greater than 0')
  .max(2 ** 31 - 1, 'must be below 2^31');
/** Each layer is some objects before any of it is compared with files; the largest LLaMA has 126. */
const layers = count.max(4096, 'must be at most 4096');
/** Far above any model there is, and small enough for every count of bytes and operations to be exact. */
const MOST_PARAMETERS = 1e12;
/** A row of the RoPE tables has as many numbers. */
const MOST_HEAD_DIM = 8192;
const positive = z.number('must be a number').positive('must be greater than 0');
const factor = z.number('must be a number').min(1, 'must be at least 1');
const flag = z.boolean('must be true or false');
const tokenId = z.number('must be a token id').int('must be a token id').nonnegative('must be a token id');

/** A missing or null key has this value: transformers' LlamaConfig treats both alike where it allows null. */
function or<T>(schema: z.ZodType<T>, value: T) {
  return schema.nullish().transform((given) => given ?? value);
}

const optional = <T>(schema: z.ZodType<T>) => schema.nullish().transform((given) => given ?? undefined);

/** The defaults are those of transformers' LlamaConfig. */
const HF_CONFIG = z.looseObject({
  vocab_size: or(count, 32000),
  hidden_size: or(count, 4096),
  intermediate_size: or(count, 11008),
  num_hidden_layers: or(layers, 32),
  num_attention_heads: or(count, 32),
  num_key_value_heads: optional(count),
  head_dim: optional(count),
  max_position_embeddings: or(count, 2048),
  rms_norm_eps: or(positive, 1e-6),
  initializer_range: or(z.number('must be a number').nonnegative('must not be negative'), 0.02),
  tie_word_embeddings: or(flag, false),
  attention_bias: or(flag, false),
  mlp_bias: or(flag, false),
  rope_theta: or(positive, 10000),
  original_max_position_embeddings: optional(count),
  // Null says that there is none; only a missing key has a default.
  bos_token_id: tokenId.nullable().default(1),
  eos_token_id: z
    .union([tokenId, z.array(tokenId)], 'must be a token id or a list of them')
    .nullable()
    .default(2),
  // Into how many slices transformers 4 cut its products: a matter of speed.
  pretraining_tp: or(count, 1),
  // The first LLaMA conversions say -1 for "none".
  pad_token_id: z.union([tokenId, z.literal(-1)], 'must be a token id').nullish(),
});

/**
 * Keys of transformers' PretrainedConfig, which every config.json may have, and which change nothing here; old files
 * keep the settings of generation there too.
 */
const HARMLESS = `
  architectures rope_scaling rope_parameters torch_dtype dtype use_cache use_bfloat16 transformers_version
  name_or_path _name_or_path _attn_implementation attn_implementation auto_map output_attentions
  output_hidden_states return_dict torchscript tokenizer_class chunk_size_feed_forward pruned_heads
  is_decoder is_encoder_decoder add_cross_attention cross_attention_hidden_size tie_encoder_decoder
  tf_legacy_loss finetuning_task problem_type id2label label2id num_labels prefix sep_token_id
  decoder_start_token_id task_specific_params max_length min_length do_sample early_stopping num_beams
  num_beam_groups temperature diversity_penalty top_k top_p typical_p repetition_penalty length_penalty
  suppress_tokens no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences
  output_scores return_dict_in_generate forced_bos_token_id forced_eos_token_id remove_invalid_values
  exponential_decay_length_penalty begin_suppress_tokens
`
  .trim()
  .split(/\s+/);

/** Every key that a config.json of a LLaMA may have: those read here, and those that change nothing. */
export function llamaConfigKeys(): string[] {
  return [...Object.keys(HF_CONFIG.shape), ...Object.keys(SUPPORTED), ...HARMLESS];
}

const ROPE_TYPES = ['default', 'linear', 'dynamic', 'llama3', 'yarn'] as const;

/** The keys of rope_scaling (classic) and rope_parameters (transformers 5). */
const HF_ROPE = z.looseObject({
  rope_theta: optional(positive),
  factor: optional(factor),
  low_freq_factor: optional(positive),
  high_freq_factor: optional(positive),
  original_max_position_embeddings: optional(count),
  beta_fast: optional(positive),
  beta_slow: optional(positive),
  attention_factor: optional(positive),
  mscale: optional(z.number('must be a number').nonnegative('must not be negative')),
  mscale_all_dim: optional(z.number('must be a number').nonnegative('must not be negative')),
  truncate: or(flag, true),
});

/** Keys that change what the model computes, and the values under which it is the model computed here. */
const SUPPORTED: Record<string, { values: readonly unknown[]; why: string }> = {
  model_type: { values: ['llama'], why: 'only llama is supported' },
  hidden_act: { values: ['silu', 'swish'], why: 'only silu is supported' },
  attention_dropout: { values: [0], why: 'dropout is not supported' },
  partial_rotary_factor: { values: [1], why: 'only 1 is supported' },
  quantization_config: { values: [], why: 'quantized weights are not supported' },
  is_causal: { values: [true], why: 'only causal attention is supported' },
};

/**
 * The model that a config.json of `LlamaForCausalLM` describes, in the classic form (`rope_theta`,
 * `rope_scaling`) or transformers 5's (`rope_parameters`); also the `model_config` of a run. `source` opens every
 * error. Keys that would change the result and are not supported are refused; unknown ones are kept in `raw`.
 * @throws UserError of all faults, in a line each naming source, key and value.
 */
export function parseLlamaConfig(json: unknown, source: string): LlamaConfig {
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new UserError(`${source}: must be an object with the keys of a LLaMA config.json`);
  checkDepth(json, source);
  const raw = json as Record<string, unknown>;
  const notes: string[] = [];
  const faults: string[] = [];
  const refuse: Refuse = (key, value, why) =>
    void faults.push(`${source}: ${key} is ${value === undefined ? 'missing' : shown(value)}; ${why}`);
  const note = checkUnsupported(raw, refuse);
  if (note !== undefined) notes.push(`${source}: ${note}`);
  const hf = readKeys(HF_CONFIG, raw, refuse);
  if (hf.pretraining_tp > 1)
    notes.push(
      `${source}: pretraining_tp is ${hf.pretraining_tp}; computed as with 1, which gives the same logits`,
    );
  if (hf.pad_token_id === -1) notes.push(`${source}: pad_token_id is -1; taken as none`);

  const heads = hf.num_attention_heads;
  const kvHeads = hf.num_key_value_heads ?? heads;
  if (heads % kvHeads > 0)
    refuse('num_key_value_heads', kvHeads, `it must divide num_attention_heads (${heads})`);
  const headDim = hf.head_dim ?? hf.hidden_size / heads;
  if (headDim % 1 > 0)
    refuse('hidden_size', hf.hidden_size, `it must be a multiple of num_attention_heads (${heads})`);
  else if (headDim % 2 > 0)
    refuse(
      'head_dim',
      headDim,
      'it must be even, because RoPE turns pairs (hidden_size / num_attention_heads)',
    );
  if (headDim > MOST_HEAD_DIM) refuse('head_dim', headDim, `it must be at most ${MOST_HEAD_DIM}`);
  const parameters =
    hf.hidden_size *
    (2 * hf.vocab_size + hf.num_hidden_layers * (2 * headDim * (heads + kvHeads) + 3 * hf.intermediate_size));
  if (parameters > MOST_PARAMETERS)
    faults.push(
      `${source}: describes a model of ${parameters.toExponential(1)} parameters; ` +
        `at most ${MOST_PARAMETERS.toExponential()} are taken`,
    );
  const rope = readRope(raw, hf, refuse);
  if (faults.length > 0) throw new UserError(faults);
  const padTokenId = hf.pad_token_id ?? -1;

  return {
    vocabSize: hf.vocab_size,
    hiddenSize: hf.hidden_size,
    intermediateSize: hf.intermediate_size,
    numHiddenLayers: hf.num_hidden_layers,
    numAttentionHeads: heads,
    numKeyValueHeads: kvHeads,
    headDim,
    maxPositionEmbeddings: hf.max_position_embeddings,
    rmsNormEps: hf.rms_norm_eps,
    initializerRange: hf.initializer_range,
    tieWordEmbeddings: hf.tie_word_embeddings,
    attentionBias: hf.attention_bias,
    mlpBias: hf.mlp_bias,
    rope,
    bosTokenId: hf.bos_token_id ?? undefined,
    eosTokenId: hf.eos_token_id === null ? [] : [hf.eos_token_id].flat(),
    padTokenId: padTokenId < 0 ? undefined : padTokenId,
    raw,
    notes,
  };
}

/** parseLlamaConfig() of `directory`/config.json. */
export function readLlamaConfig(directory: string): LlamaConfig {
  const path = join(directory, 'config.json');
  const bytes = readRegular(path, 'the file is missing; a model directory needs it');
  return parseLlamaConfig(parseJson(bytes, path), path);
}

/**
 * The config.json to save beside float32 weights: the classic form, which transformers 4 and 5 both read, with
 * every default written out and the unknown keys of the model it came from.
 */
export function toHfConfig(config: LlamaConfig): Record<string, unknown> {
  const { rope, eosTokenId, raw } = config;
  const kept = Object.entries(raw).filter(([key]) => !NOT_KEPT.has(key));
  return {
    ...Object.fromEntries(kept),
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.numHiddenLayers,
    num_attention_heads: config.numAttentionHeads,
    num_key_value_heads: config.numKeyValueHeads,
    head_dim: config.headDim,
    hidden_act: 'silu',
    max_position_embeddings: config.maxPositionEmbeddings,
    initializer_range: config.initializerRange,
    rms_norm_eps: config.rmsNormEps,
    rope_theta: rope.theta,
    rope_scaling: toHfRopeScaling(rope),
    attention_bias: config.attentionBias,
    attention_dropout: 0,
    ...(raw.pretraining_tp != null && { pretraining_tp: 1 }),
    mlp_bias: config.mlpBias,
    tie_word_embeddings: config.tieWordEmbeddings,
    bos_token_id: config.bosTokenId ?? null,
    eos_token_id: eosTokenId.length === 0 ? null : eosTokenId.length === 1 ? eosTokenId[0] : eosTokenId,
    pad_token_id: config.padTokenId ?? null,
    torch_dtype: 'float32',
  };
}

/** Keys that transformers' checks want to have a fraction, which JSON.stringify drops from whole numbers. */
const FLOATS = [
  'initializer_range',
  'rms_norm_eps',
  'rope_theta',
  'attention_dropout',
  'factor',
  'low_freq_factor',
  'high_freq_factor',
  'beta_fast',
  'beta_slow',
  'attention_factor',
  'mscale',
  'mscale_all_dim',
];

/** The text of the config.json of {@link toHfConfig}, with 4.0 where transformers expects a float. */
export function renderHfConfig(config: LlamaConfig): string {
  const whole = new RegExp(`^(\\s*"(?:${FLOATS.join('|')})": -?\\d+)(,?)$`, 'gm');
  return `${JSON.stringify(toHfConfig(config), null, 2).replace(whole, '$1.0$2')}\n`;
}

/** Said elsewhere in the classic form, or no longer true of what is saved. */
const NOT_KEPT = new Set([
  'rope_parameters',
  'original_max_position_embeddings',
  'dtype',
  'quantization_config',
  'transformers_version',
  '_name_or_path',
]);

function toHfRopeScaling(rope: RopeConfig): Record<string, unknown> | null {
  switch (rope.type) {
    case 'default':
      return null;
    case 'linear':
    case 'dynamic':
      // transformers before 4.43 takes exactly these two keys, later ones take them too.
      return { type: rope.type, factor: rope.factor };
    case 'llama3':
      return {
        rope_type: 'llama3',
        factor: rope.factor,
        low_freq_factor: rope.lowFreqFactor,
        high_freq_factor: rope.highFreqFactor,
        original_max_position_embeddings: rope.originalMaxPositionEmbeddings,
      };
    case 'yarn':
      return {
        rope_type: 'yarn',
        factor: rope.factor,
        original_max_position_embeddings: rope.originalMaxPositionEmbeddings,
        beta_fast: rope.betaFast,
        beta_slow: rope.betaSlow,
        ...(rope.attentionFactor !== undefined && { attention_factor: rope.attentionFactor }),
        ...(rope.mscale !== undefined && { mscale: rope.mscale }),
        ...(rope.mscaleAllDim !== undefined && { mscale_all_dim: rope.mscaleAllDim }),
        ...(!rope.truncate && { truncate: false }),
      };
  }
}

/** The model itself, and the trunk alone, whose files have no head: what a tied model needs none in. */
const ARCHITECTURES = ['LlamaForCausalLM', 'LlamaModel'];

/** What is told of a key that makes no model. */
type Refuse = (key: string, value: unknown, why: string) => void;

/** @returns what is to be noted of architectures, if it is read as something else */
function checkUnsupported(raw: Record<string, unknown>, refuse: Refuse): string | undefined {
  for (const [key, { values, why }] of Object.entries(SUPPORTED)) {
    const value = raw[key] ?? undefined;
    if (value !== undefined && !values.includes(value)) refuse(key, value, why);
  }
  const architectures = raw.architectures ?? [];
  const given = JSON.stringify(architectures);
  if (given === '[]' || given === '["LlamaForCausalLM"]') return undefined;
  const [name, ...others] = [architectures].flat();
  // The first conversions write LLaMA.
  const known = ARCHITECTURES.some((known) => known.toLowerCase() === String(name).toLowerCase());
  if (Array.isArray(architectures) && known && others.length === 0)
    return `architectures is ${given}; read as ["LlamaForCausalLM"]`;
  refuse('architectures', architectures, 'only LlamaForCausalLM is supported');
  return undefined;
}

/** As transformers merges the two forms: rope_scaling goes before rope_parameters, an inner rope_theta before the outer. */
function readRope(
  raw: Record<string, unknown>,
  hf: z.infer<typeof HF_CONFIG>,
  refuseKey: Refuse,
): RopeConfig {
  const key = isFilled(raw.rope_scaling) ? 'rope_scaling' : 'rope_parameters';
  const given = raw[key] ?? {};
  const isObject = typeof given === 'object' && !Array.isArray(given);
  if (!isObject) refuseKey(key, given, 'it must be an object');
  const named = isObject ? (given as Record<string, unknown>) : {};
  const refuse: Refuse = (name, value, why) => refuseKey(`${key}.${name}`, value, why);
  const type = (named.rope_type ?? named.type ?? 'default') as RopeConfig['type'];
  if ((named.partial_rotary_factor ?? 1) !== 1)
    refuse('partial_rotary_factor', named.partial_rotary_factor, 'only 1 is supported');
  const rope = readKeys(HF_ROPE, named, refuse);
  const required = (name: 'factor' | 'low_freq_factor' | 'high_freq_factor'): number => {
    const value = rope[name];
    if (value === undefined) refuse(name, value, `${type} scaling needs it`);
    return value ?? Number.NaN;
  };
  const theta = rope.rope_theta ?? hf.rope_theta;
  const originalMaxPositionEmbeddings =
    hf.original_max_position_embeddings ??
    rope.original_max_position_embeddings ??
    hf.max_position_embeddings;
  switch (type) {
    case 'default':
      return { type, theta };
    case 'linear':
    case 'dynamic':
      return { type, theta, factor: required('factor') };
    case 'llama3': {
      const lowFreqFactor = required('low_freq_factor');
      const highFreqFactor = required('high_freq_factor');
      if (highFreqFactor <= lowFreqFactor)
        refuse(
          'high_freq_factor',
          highFreqFactor,
          `it must be greater than low_freq_factor (${lowFreqFactor})`,
        );
      return {
        type,
        theta,
        factor: required('factor'),
        lowFreqFactor,
        highFreqFactor,
        originalMaxPositionEmbeddings,
      };
    }
    case 'yarn':
      return {
        type,
        theta,
        factor: rope.factor ?? hf.max_position_embeddings / originalMaxPositionEmbeddings,
        originalMaxPositionEmbeddings,
        betaFast: rope.beta_fast ?? 32,
        betaSlow: rope.beta_slow ?? 1,
        attentionFactor: rope.attention_factor,
        mscale: rope.mscale,
        mscaleAllDim: rope.mscale_all_dim,
        truncate: rope.truncate,
      };
    default:
      refuse('rope_type', type, `supported are ${ROPE_TYPES.join(', ')}`);
      return { type: 'default', theta };
  }
}

/** Python's truth: null and {} both mean that nothing was said. */
function isFilled(value: unknown): boolean {
  return value !== undefined && value !== null && JSON.stringify(value) !== '{}';
}

/**
 * The keys of a schema, and the first fault of each that has one. Such a key is then NaN, which fails no comparison with
 * others: what follows from a fault is not told.
 */
function readKeys<S extends z.ZodObject>(
  schema: S,
  json: Record<string, unknown>,
  refuse: Refuse,
): z.infer<S> {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const wrong = new Set<string>();
  for (const { path, message } of result.error.issues) {
    const key = String(path[0]);
    if (!wrong.has(key)) refuse(key, json[key], `it ${message}`);
    wrong.add(key);
  }
  const others = Object.entries(json).filter(([key]) => !wrong.has(key));
  const nan = [...wrong].map((key) => [key, Number.NaN]);
  return { ...schema.parse(Object.fromEntries(others)), ...Object.fromEntries(nan) };
}

/** JSON has no word for NaN and infinity. */
function shown(value: unknown): string {
  return typeof value === 'number' ? String(value) : JSON.stringify(value);
}
