import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { UserError } from '../../errors.js';
import { parseLlamaConfig, readLlamaConfig, toHfConfig } from './config.js';

const parse = (json: unknown) => parseLlamaConfig(json, 'config.json');
/** A config without what it was read from. */
const shapeOf = (json: unknown) => ({ ...parse(json), raw: undefined });

describe('parseLlamaConfig', () => {
  it("has transformers' defaults", () => {
    expect(parse({})).toEqual({
      vocabSize: 32000,
      hiddenSize: 4096,
      intermediateSize: 11008,
      numHiddenLayers: 32,
      numAttentionHeads: 32,
      numKeyValueHeads: 32,
      headDim: 128,
      maxPositionEmbeddings: 2048,
      rmsNormEps: 1e-6,
      initializerRange: 0.02,
      tieWordEmbeddings: false,
      attentionBias: false,
      mlpBias: false,
      rope: { type: 'default', theta: 10000 },
      bosTokenId: 1,
      eosTokenId: [2],
      padTokenId: undefined,
      raw: {},
      notes: [],
    });
  });

  it('takes null for what is not given, but for token ids as none', () => {
    const nulls = { num_key_value_heads: null, head_dim: null, rope_scaling: null, rope_theta: null };
    expect(shapeOf({ ...nulls, quantization_config: null, pretraining_tp: null })).toEqual(shapeOf({}));
    expect(parse({ bos_token_id: null, eos_token_id: null, pad_token_id: null })).toMatchObject({
      bosTokenId: undefined,
      eosTokenId: [],
      padTokenId: undefined,
    });
  });

  it('takes a list of end tokens, and -1 for no padding token', () => {
    expect(parse({ eos_token_id: [128001, 128009], pad_token_id: -1 })).toMatchObject({
      eosTokenId: [128001, 128009],
      padTokenId: undefined,
    });
    expect(parse({ pad_token_id: 0 }).padTokenId).toBe(0);
  });

  it.each([
    [{ pretraining_tp: 4 }, 'pretraining_tp is 4; computed as with 1, which gives the same logits'],
    [{ pad_token_id: -1 }, 'pad_token_id is -1; taken as none'],
    [
      { architectures: ['LLaMAForCausalLM'] },
      'architectures is ["LLaMAForCausalLM"]; read as ["LlamaForCausalLM"]',
    ],
    [{ architectures: ['LlamaModel'] }, 'architectures is ["LlamaModel"]; read as ["LlamaForCausalLM"]'],
  ])('takes %j as what it comes to, and says so', (json, note) => {
    const { notes, ...config } = parse(json);
    expect(notes).toEqual([`config.json: ${note}`]);
    expect({ ...config, raw: {}, notes: [] }).toEqual(parse({}));
    const saved = parse(toHfConfig({ ...config, notes }));
    expect(saved).toEqual({ ...config, raw: saved.raw, notes: [] });
  });

  it('refuses what is nested too deeply to be saved again', () => {
    const deep = JSON.parse(`{"note": ${'['.repeat(100_000)}${']'.repeat(100_000)}}`);
    expect(() => parse(deep)).toThrow('config.json: is nested too deeply');
    expect(() => parse({ hidden_act: deep.note })).toThrow('config.json: is nested too deeply');
  });

  it('has nothing to say of what is usual', () => {
    expect(parse({ architectures: ['LlamaForCausalLM'], pretraining_tp: 1, pad_token_id: 0 }).notes).toEqual(
      [],
    );
  });

  it('takes a head_dim that is not hidden_size / num_attention_heads', () => {
    expect(parse({ hidden_size: 60, num_attention_heads: 5, head_dim: 16 }).headDim).toBe(16);
    expect(parse({ hidden_size: 64, num_attention_heads: 5, head_dim: 16 }).headDim).toBe(16);
  });

  it.each([
    ['linear', { type: 'linear', factor: 2 }, { type: 'linear', theta: 1e6, factor: 2 }],
    ['dynamic', { rope_type: 'dynamic', factor: 4 }, { type: 'dynamic', theta: 1e6, factor: 4 }],
    [
      'llama3',
      {
        rope_type: 'llama3',
        factor: 8,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 8192,
      },
      {
        type: 'llama3',
        theta: 1e6,
        factor: 8,
        lowFreqFactor: 1,
        highFreqFactor: 4,
        originalMaxPositionEmbeddings: 8192,
      },
    ],
    [
      'yarn',
      { rope_type: 'yarn', factor: 4, beta_fast: 16, attention_factor: 1.1, truncate: false },
      {
        type: 'yarn',
        theta: 1e6,
        factor: 4,
        originalMaxPositionEmbeddings: 2048,
        betaFast: 16,
        betaSlow: 1,
        attentionFactor: 1.1,
        truncate: false,
      },
    ],
  ])('reads %s scaling in both forms and writes it in the classic one', (_, scaling, expected) => {
    const classic = shapeOf({ rope_theta: 1e6, rope_scaling: scaling });
    const v5 = shapeOf({ rope_parameters: { ...scaling, rope_theta: 1e6 } });
    expect(classic.rope).toEqual(expected);
    expect(v5).toEqual(classic);
    const saved = toHfConfig(parse({ rope_parameters: { ...scaling, rope_theta: 1e6 } }));
    expect(saved).not.toHaveProperty('rope_parameters');
    expect(saved.rope_theta).toBe(1e6);
    expect(shapeOf(saved)).toEqual(classic);
  });

  it('prefers, as transformers does, an inner rope_theta and rope_scaling', () => {
    expect(
      parse({ rope_theta: 1, rope_parameters: { rope_type: 'default', rope_theta: 5 } }).rope.theta,
    ).toBe(5);
    expect(
      parse({ rope_scaling: { type: 'linear', factor: 2 }, rope_parameters: { rope_type: 'default' } }).rope
        .type,
    ).toBe('linear');
    expect(parse({ rope_scaling: {}, rope_parameters: { rope_type: 'linear', factor: 2 } }).rope.type).toBe(
      'linear',
    );
  });

  it.each([
    [{ hidden_act: 'gelu' }, 'hidden_act is "gelu"; only silu is supported'],
    [{ attention_bias: 1 }, 'attention_bias is 1; it must be true or false'],
    [{ attention_dropout: 0.1 }, 'attention_dropout is 0.1; dropout is not supported'],
    [{ pretraining_tp: 0 }, 'pretraining_tp is 0; it must be greater than 0'],
    [{ partial_rotary_factor: 0.5 }, 'partial_rotary_factor is 0.5; only 1 is supported'],
    [
      { quantization_config: { bits: 4 } },
      'quantization_config is {"bits":4}; quantized weights are not supported',
    ],
    [{ model_type: 'mistral' }, 'model_type is "mistral"; only llama is supported'],
    [
      { architectures: ['MistralForCausalLM'] },
      'architectures is ["MistralForCausalLM"]; only LlamaForCausalLM',
    ],
    [
      { architectures: ['LlamaForSequenceClassification'] },
      'architectures is ["LlamaForSequenceClassification"]; only LlamaForCausalLM',
    ],
    [{ architectures: 'LlamaForCausalLM' }, 'architectures is "LlamaForCausalLM"; only LlamaForCausalLM'],
    [{ is_causal: false }, 'is_causal is false; only causal attention is supported'],
    [
      { rope_scaling: { rope_type: 'longrope' } },
      'rope_scaling.rope_type is "longrope"; supported are default, linear',
    ],
    [{ rope_scaling: { type: 'linear' } }, 'rope_scaling.factor is missing; linear scaling needs it'],
    [{ rope_scaling: { type: 'linear', factor: '2' } }, 'rope_scaling.factor is "2"; it must be a number'],
    [{ rope_scaling: { type: 'dynamic', factor: 0.5 } }, 'rope_scaling.factor is 0.5; it must be at least 1'],
    [{ rope_scaling: [2] }, 'rope_scaling is [2]; it must be an object'],
    [
      { rope_parameters: { rope_type: 'llama3', factor: 8, low_freq_factor: 4, high_freq_factor: 4 } },
      'rope_parameters.high_freq_factor is 4; it must be greater than low_freq_factor (4)',
    ],
    [
      { rope_parameters: { partial_rotary_factor: 0.5 } },
      'rope_parameters.partial_rotary_factor is 0.5; only 1',
    ],
    [{ rope_theta: 0 }, 'rope_theta is 0; it must be greater than 0'],
    [{ vocab_size: 0 }, 'vocab_size is 0; it must be greater than 0'],
    [{ num_hidden_layers: 65536 }, 'num_hidden_layers is 65536; it must be at most 4096'],
    [{ hidden_size: 64.5 }, 'hidden_size is 64.5; it must be a whole number'],
    [{ num_hidden_layers: '2' }, 'num_hidden_layers is "2"; it must be a number'],
    [{ intermediate_size: 2 ** 31 }, 'intermediate_size is 2147483648; it must be below 2^31'],
    [{ rms_norm_eps: -1 }, 'rms_norm_eps is -1; it must be greater than 0'],
    [{ tie_word_embeddings: 'yes' }, 'tie_word_embeddings is "yes"; it must be true or false'],
    [{ eos_token_id: [2, -1] }, 'eos_token_id is [2,-1]; it must be a token id'],
    [{ head_dim: 8194 }, 'head_dim is 8194; it must be at most 8192'],
    [{ vocab_size: 2 ** 31 - 1 }, 'describes a model of 1.8e+13 parameters; at most 1e+12 are taken'],
    [{ hidden_size: 4097 }, 'hidden_size is 4097; it must be a multiple of num_attention_heads (32)'],
    [{ num_key_value_heads: 5 }, 'num_key_value_heads is 5; it must divide num_attention_heads (32)'],
    [{ hidden_size: 96 }, 'head_dim is 3; it must be even'],
    [[], 'must be an object with the keys of a LLaMA config.json'],
  ])('refuses %j', (json, message) => {
    const bad = () => parseLlamaConfig(json, 'run.yaml: model_config');
    expect(bad).toThrow(UserError);
    expect(bad).toThrow(`run.yaml: model_config: ${message}`);
  });
});

it('all faults of a config are told at once, and none that follows from another', () => {
  const faults = (json: object) => {
    try {
      parse(json);
      return [];
    } catch (error) {
      expect(error).toBeInstanceOf(UserError);
      return (error as UserError).faults.map((fault) => fault.replace('config.json: ', ''));
    }
  };
  expect(
    faults({
      model_type: 'mistral',
      hidden_act: 'gelu',
      architectures: ['MistralForCausalLM'],
      hidden_size: 66,
      num_attention_heads: 4,
      num_key_value_heads: 3,
      rms_norm_eps: 'small',
      rope_scaling: { rope_type: 'llama3', factor: 0.5, low_freq_factor: 4 },
    }),
  ).toEqual([
    'model_type is "mistral"; only llama is supported',
    'hidden_act is "gelu"; only silu is supported',
    'architectures is ["MistralForCausalLM"]; only LlamaForCausalLM is supported',
    'rms_norm_eps is "small"; it must be a number',
    'num_key_value_heads is 3; it must divide num_attention_heads (4)',
    'hidden_size is 66; it must be a multiple of num_attention_heads (4)',
    'rope_scaling.factor is 0.5; it must be at least 1',
    'rope_scaling.high_freq_factor is missing; llama3 scaling needs it',
  ]);
  // Nobody knows what 66 is to be a multiple of, nor what a factor of something unknown does.
  expect(faults({ num_attention_heads: 'four', hidden_size: 66, rope_scaling: { type: 'own' } })).toEqual([
    'num_attention_heads is "four"; it must be a number',
    'rope_scaling.rope_type is "own"; supported are default, linear, dynamic, llama3, yarn',
  ]);
});

describe('toHfConfig', () => {
  it('keeps unknown keys and drops what is no longer true', () => {
    const saved = toHfConfig(
      parse({
        my_key: 1,
        dtype: 'bfloat16',
        torch_dtype: 'bfloat16',
        transformers_version: '5',
        eos_token_id: [2, 3],
      }),
    );
    expect(saved).toMatchObject({
      my_key: 1,
      torch_dtype: 'float32',
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      eos_token_id: [2, 3],
    });
    expect(saved).not.toHaveProperty('dtype');
    expect(saved).not.toHaveProperty('transformers_version');
  });
});

describe('readLlamaConfig', () => {
  it('names the file when it is missing or not JSON', () => {
    const directory = mkdtempSync(join(tmpdir(), 'tstrain-config-'));
    try {
      expect(() => readLlamaConfig(directory)).toThrow(`${directory}/config.json: the file is missing`);
      writeFileSync(join(directory, 'config.json'), '{');
      expect(() => readLlamaConfig(directory)).toThrow(`${directory}/config.json: not valid JSON`);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

const FIXTURES = join(import.meta.dirname, '../../tests/fixtures/llama');

describe('the configs of the reference models', () => {
  const names = readdirSync(FIXTURES).filter((name) => existsSync(join(FIXTURES, name, 'config.json')));

  it.each(names)('%s is the same model in both forms, and as saved', (name) => {
    const read = (file: string) => JSON.parse(readFileSync(join(FIXTURES, name, file), 'utf8'));
    const classic = shapeOf(read('config.json'));
    expect(shapeOf(read('config.v5.json'))).toEqual(classic);
    expect(shapeOf(toHfConfig(parse(read('config.v5.json'))))).toEqual(classic);
  });
});
