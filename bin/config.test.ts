import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { addon } from '../engine/device/addon.js';
import { UserError } from '../errors.js';
import { renderConfig } from '../recipes/settings.js';
import { loadConfig } from './config.js';

const home = process.cwd();
const dir = mkdtempSync(join(tmpdir(), 'tstrain-config-'));
process.chdir(dir);
mkdirSync('model');
writeFileSync('rows.json', '[]');
vi.stubEnv('TSTRAIN_NUM_THREADS', '');

afterAll(() => {
  process.chdir(home);
  vi.unstubAllEnvs();
  rmSync(dir, { recursive: true });
});

const BASE = 'model_name_or_path: model\ndata_path: rows.json\noutput_dir: out\n';

function load(lines: string, overrides: string[] = []) {
  writeFileSync('run.yaml', BASE + lines);
  return loadConfig('run.yaml', overrides);
}

/** The text of the error that a config makes; every error must be a UserError of one line. */
function errorOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(UserError);
    expect((error as Error).message).not.toContain('\n');
    return (error as Error).message;
  }
  throw new Error('no error');
}

const fault = (lines: string, overrides?: string[]) => errorOf(() => load(lines, overrides));

function faultOfFile(text: string): string {
  writeFileSync('other.yaml', text);
  return errorOf(() => loadConfig('other.yaml'));
}

describe('loadConfig', () => {
  it('fills in the defaults and leaves keys without one undefined', () => {
    expect(load('')).toEqual({
      model_name_or_path: 'model',
      tokenizer_name_or_path: 'model',
      data_path: 'rows.json',
      output_dir: 'out',
      model_max_length: 512,
      packing: false,
      data_order: 'shuffled',
      keep_unlabelled_rows: false,
      num_train_epochs: 3,
      max_steps: -1,
      per_device_train_batch_size: 4,
      per_device_eval_batch_size: 4,
      gradient_accumulation_steps: 1,
      learning_rate: 2e-5,
      weight_decay: 0,
      adam_beta1: 0.9,
      adam_beta2: 0.999,
      adam_epsilon: 1e-8,
      max_grad_norm: 1,
      lr_scheduler_type: 'cosine',
      warmup_ratio: 0.03,
      warmup_steps: 0,
      loss_normalization: 'token_mean',
      logging_steps: 1,
      eval_strategy: 'no',
      save_strategy: 'steps',
      save_steps: 500,
      seed: 42,
      bf16: false,
      gradient_dtype: 'float32',
      optimizer_offload: 'none',
      optimizer_state_dtype: 'float32',
      gradient_checkpointing: false,
      skip_memory_check: false,
      device: 'auto',
    });
  });

  it('reads numbers in every way YAML 1.2 writes them', () => {
    for (const [text, value] of [
      ['2e-5', 2e-5],
      ['2.0e-5', 2e-5],
      ['2E-5', 2e-5],
      ['.00002', 2e-5],
      ['+3', 3],
    ] as const) {
      expect(load(`learning_rate: ${text}`).learning_rate, text).toBe(value);
    }
  });

  it('reads "no" as the word, as YAML 1.2 does', () => {
    expect(load('save_strategy: no').save_strategy).toBe('no');
  });

  it('takes a model from scratch with the keys of its config', () => {
    writeFileSync(
      'scratch.yaml',
      'model_config:\n  hidden_size: 64\n  rope_scaling: null\ndata_path: rows.json\noutput_dir: out\n',
    );
    const config = loadConfig('scratch.yaml');
    expect(config.model_config).toEqual({ hidden_size: 64, rope_scaling: null });
    expect(config.model_name_or_path).toBeUndefined();
    expect(config.tokenizer_name_or_path).toBeUndefined();
  });

  it('evaluates every logging_steps unless eval_steps is given', () => {
    const lines = 'eval_data_path: rows.json\neval_strategy: steps\nlogging_steps: 7\n';
    expect(load(lines).eval_steps).toBe(7);
    expect(load(`${lines}eval_steps: 20`).eval_steps).toBe(20);
  });

  it('lets --set win over the file, the last one over the others, and take keys out', () => {
    const lines = 'learning_rate: 1e-3\nsave_total_limit: 2\n';
    expect(load(lines, ['learning_rate=5e-4', 'learning_rate=1e-4', 'bf16=true'])).toMatchObject({
      learning_rate: 1e-4,
      bf16: true,
      save_total_limit: 2,
    });
    expect(load(lines, ['save_total_limit=null']).save_total_limit).toBeUndefined();
    expect(
      load('', ['model_name_or_path=null', 'model_config={hidden_size: 64}', 'output_dir=a=b']),
    ).toMatchObject({ model_config: { hidden_size: 64 }, output_dir: 'a=b' });
    const inner = ['model_name_or_path=null', 'model_config={hidden_size: 64, vocab_size: 9}'];
    expect(
      load('', [...inner, 'model_config.num_hidden_layers=2', 'model_config.vocab_size=null']).model_config,
    ).toEqual({ hidden_size: 64, num_hidden_layers: 2 });
  });

  it('takes # in a value of --set for what it is, and for a comment in the file', () => {
    expect(load('seed: 7 # lucky', ['output_dir=run #2']).output_dir).toBe('run #2');
    expect(load('seed: 7 # lucky').seed).toBe(7);
    expect(load('', ['output_dir=#2']).output_dir).toBe('#2');
    expect(load('', ['output_dir=a#2']).output_dir).toBe('a#2');
    expect(load('', ['output_dir="a #2"']).output_dir).toBe('a #2');
    expect(fault('', ['seed=7 # lucky'])).toBe(
      '--set seed=7 # lucky: seed: expected a whole number from 0 to 4294967295, got "7 # lucky"',
    );
  });

  it('expands ~ to the home directory, in the file and in --set', () => {
    vi.stubEnv('HOME', dir);
    writeFileSync('home.yaml', 'model_name_or_path: ~/model\ndata_path: ~/rows.json\noutput_dir: out\n');
    expect(loadConfig('home.yaml', ['output_dir=~/runs/1'])).toMatchObject({
      model_name_or_path: join(dir, 'model'),
      tokenizer_name_or_path: join(dir, 'model'),
      data_path: join(dir, 'rows.json'),
      output_dir: join(dir, 'runs/1'),
    });
    expect(load('', ['output_dir=./~name']).output_dir).toBe('./~name');
  });

  it('can leave out whether inputs exist', () => {
    writeFileSync('run.yaml', 'model_name_or_path: none\ndata_path: none.json\noutput_dir: out\n');
    expect(loadConfig('run.yaml', [], { checkPaths: false }).data_path).toBe('none.json');
  });

  describe('threads', () => {
    beforeEach(() => {
      vi.stubEnv('TSTRAIN_NUM_THREADS', '3');
      return () => vi.stubEnv('TSTRAIN_NUM_THREADS', '');
    });

    it('come from the environment unless the config says', () => {
      expect(load('').threads).toBe(3);
      expect(load('threads: 2').threads).toBe(2);
      expect(load('threads: 2', ['threads=1']).threads).toBe(1);
    });

    it.each(['0', 'two', '1.5', '1025'])('TSTRAIN_NUM_THREADS=%s is refused', (text) => {
      vi.stubEnv('TSTRAIN_NUM_THREADS', text);
      expect(fault('')).toBe(`TSTRAIN_NUM_THREADS: expected a whole number from 1 to 1024, got "${text}"`);
    });
  });
});

describe('a config is refused for', () => {
  it('an unknown key, with the nearest one', () => {
    expect(fault('\nlearning_rte: 1e-4')).toBe(
      'run.yaml:5: unknown key "learning_rte"; did you mean "learning_rate"?',
    );
    expect(fault('evaluation_strategy: epoch')).toBe(
      'run.yaml:4: unknown key "evaluation_strategy"; did you mean "eval_strategy"?',
    );
    expect(fault('', ['learning_rte=1e-4'])).toBe(
      '--set learning_rte=1e-4: unknown key "learning_rte"; did you mean "learning_rate"?',
    );
    expect(fault('', ['learning_rte=null'])).toBe(
      '--set learning_rte=null: unknown key "learning_rte"; did you mean "learning_rate"?',
    );
  });

  it.each([
    ['bf16: yes', 'bf16: expected true or false, got "yes"'],
    ['bf16: 1', 'bf16: expected true or false, got 1'],
    ['gradient_dtype: float16', 'gradient_dtype: expected one of float32, bfloat16, got "float16"'],
    [
      'gradient_dtype: bfloat16',
      'gradient_dtype: bfloat16 needs bf16: true; set that too, or leave gradient_dtype at float32',
    ],
    ['bf16: yes\ngradient_dtype: bfloat16', 'bf16: expected true or false, got "yes"'],
    ['learning_rate: fast', 'learning_rate: expected a number greater than 0, got "fast"'],
    [
      'learning_rate: "2e-5"',
      'learning_rate: expected a number greater than 0, got "2e-5", a text (leave out the quotes)',
    ],
    ['learning_rate: 0', 'learning_rate: expected a number greater than 0, got 0'],
    ['learning_rate: .inf', 'learning_rate: expected a number greater than 0, got Infinity'],
    ['learning_rate: .nan', 'learning_rate: expected a number greater than 0, got NaN'],
    ['weight_decay: -0.1', 'weight_decay: expected a number, 0 or more, got -0.1'],
    ['max_grad_norm: -1', 'max_grad_norm: expected a number, 0 or more, got -1'],
    ['adam_beta2: 1', 'adam_beta2: expected a number from 0 up to, but not including, 1, got 1'],
    ['adam_epsilon: 0', 'adam_epsilon: expected a number greater than 0, got 0'],
    ['warmup_ratio: 3', 'warmup_ratio: expected a number from 0 to 1, got 3'],
    ['warmup_steps: -1', 'warmup_steps: expected a whole number, 0 or more, got -1'],
    ['save_steps: 0', 'save_steps: expected a whole number, 1 or more, got 0'],
    ['save_steps: 2.5', 'save_steps: expected a whole number, 1 or more, got 2.5'],
    ['save_total_limit: 0', 'save_total_limit: expected a whole number, 1 or more, got 0'],
    ['model_max_length: 1', 'model_max_length: expected a whole number, 2 or more, got 1'],
    ['num_train_epochs: 0', 'num_train_epochs: expected a number greater than 0, got 0'],
    ['max_steps: 0', 'max_steps: expected a whole number greater than 0, or -1, got 0'],
    ['seed: -1', 'seed: expected a whole number from 0 to 4294967295, got -1'],
    ['seed: 4294967296', 'seed: expected a whole number from 0 to 4294967295, got 4294967296'],
    ['threads: 0', 'threads: expected a whole number from 1 to 1024, got 0'],
    [
      'per_device_train_batch_size: [4]',
      'per_device_train_batch_size: expected a whole number, 1 or more, got [4]',
    ],
    [
      'lr_scheduler_type: cosin',
      'lr_scheduler_type: expected one of constant, constant_with_warmup, linear, cosine, warmup_lr, got "cosin"',
    ],
    ['eval_strategy: always', 'eval_strategy: expected one of no, steps, epoch, got "always"'],
    ['save_strategy: false', 'save_strategy: expected one of no, steps, epoch, got false'],
    ['data_order: random', 'data_order: expected one of shuffled, sequential, got "random"'],
    ['loss_normalization: mean', 'loss_normalization: expected one of token_mean, mean_of_means, got "mean"'],
    [
      'device: tpu',
      `device: "tpu" is not in this build, which has ${addon.devices().join(', ')}; auto takes the best there is`,
    ],
    ['device: 0', 'device: expected auto or the name of a device, got 0'],
    ['eval_data_path: 3', 'eval_data_path: expected the path of a file, got 3'],
    ['tokenizer_name_or_path: ""', 'tokenizer_name_or_path: expected the path of a directory, got ""'],
    ['seed:', 'seed: has no value; give it one or delete the line'],
    ['seed: null', 'seed: has no value; give it one or delete the line'],
  ])('%s', (line, message) => {
    expect(fault(line)).toBe(`run.yaml:4: ${message}`);
  });

  it.each([
    ['lr: 1', 'learning_rate'],
    ['epochs: 1', 'num_train_epochs'],
    ['LEARNING-RATE: 1', 'learning_rate'],
    ['batch_size: 1', 'per_device_train_batch_size'],
  ])('%s, with the name that is meant', (line, name) => {
    expect(fault(line)).toMatch(new RegExp(`unknown key ".*"; did you mean "${name}"\\?$`));
  });

  it('a value of --set', () => {
    expect(fault('', ['save_steps=0'])).toBe(
      '--set save_steps=0: save_steps: expected a whole number, 1 or more, got 0',
    );
    expect(fault('', ['toString=null'])).toMatch(/^--set toString=null: unknown key "toString"/);
    expect(fault('', ['save_steps'])).toBe('--set save_steps: expected key=value');
    expect(fault('', ['=3'])).toBe('--set =3: expected key=value');
    expect(fault('', ['seed='])).toBe('--set seed=: seed: has no value; seed=null takes it out');
    expect(fault('', ['seed=[1'])).toMatch(/^--set seed=\[1: not valid YAML: Flow sequence/);
    expect(fault('', ['seed=*a'])).toMatch(/^--set seed=\*a: not valid YAML: Unresolved alias/);
  });

  it('all faults at once, in the order of the file and of the options', () => {
    writeFileSync(
      'faulty.yaml',
      'bogus_key: 1\nseed:\nbf16: yes\nmodel_config: {hidden_sze: 8, layers: 2}\noutput_dir: ~somebody/out\n' +
        'eval_strategy: epoch\ndevice: tpu\ntokenizer_name_or_path: none\n',
    );
    const set = ['save_steps', 'packing=1', 'seed=[1'];
    const error = (() => {
      try {
        loadConfig('faulty.yaml', set);
      } catch (error) {
        return error as UserError;
      }
      throw new Error('no error');
    })();
    expect(error.faults).toEqual([
      '--set save_steps: expected key=value',
      expect.stringMatching(/^--set seed=\[1: not valid YAML: Flow sequence/),
      'faulty.yaml:1: unknown key "bogus_key"; no key has a name like it',
      'faulty.yaml:2: seed: has no value; give it one or delete the line',
      'faulty.yaml:3: bf16: expected true or false, got "yes"',
      'faulty.yaml:5: output_dir: ~somebody/out: ~somebody is not expanded; give the whole path, or ./~somebody/out for a name with a ~',
      '--set packing=1: packing: expected true or false, got 1',
      'faulty.yaml: data_path is missing; it is the path of a file',
      'faulty.yaml:4: model_config: unknown key "hidden_sze"; did you mean "hidden_size"?',
      'faulty.yaml:4: model_config: unknown key "layers"; did you mean "num_hidden_layers"?',
      expect.stringMatching(/^faulty.yaml:7: device: "tpu" is not in this build/),
      'faulty.yaml:6: eval_strategy: epoch needs eval_data_path, which is missing',
      'faulty.yaml:8: tokenizer_name_or_path: no such directory: none (nothing is downloaded)',
    ]);
    expect(error.message).toBe(error.faults.join('\n'));
  });

  it.each([
    ['cutoff_len', 'its name here is "model_max_length"'],
    ['report_to', 'there is none: metrics are written to metrics.jsonl in output_dir'],
    ['tf32', 'there is none: precision is float32, or bf16: true'],
    ['fsdp', 'there is none: a run is one process on one device'],
    ['lora_rank', 'there is none: a run trains all weights of a model'],
    ['constructor', 'no key has a name like it'],
  ])('%s, a key of another trainer: %s', (key, hint) => {
    expect(fault(`${key}: 1`)).toBe(`run.yaml:4: unknown key "${key}"; ${hint}`);
  });

  it('YAML that is nested too deeply, holds itself or is larger than settings are', () => {
    for (const text of [`seed: ${'['.repeat(20_000)}`, `seed: ${'['.repeat(20_000)}${']'.repeat(20_000)}`])
      expect(faultOfFile(text)).toBe('other.yaml: is nested too deeply');
    expect(faultOfFile('model_config: &m\n  a: *m\n')).toBe(
      'other.yaml: holds itself (an alias within its anchor)',
    );
    expect(faultOfFile(`# ${'x'.repeat(2 ** 16)}`)).toBe(
      'other.yaml: has 65538 bytes, the settings of a run at most 65536',
    );
    expect(fault(`"a\\e[31m${'x'.repeat(10_000)}": 1`).length).toBeLessThan(2001);
    expect(fault('"a\\e[31m": 1')).toContain('a\\u001b[31m');
  });

  it('a required key that is missing', () => {
    expect(faultOfFile('model_name_or_path: model\noutput_dir: out\n')).toBe(
      'other.yaml: data_path is missing; it is the path of a file',
    );
    expect(faultOfFile('model_name_or_path: model\ndata_path: rows.json\n')).toBe(
      'other.yaml: output_dir is missing; it is the path of a directory',
    );
  });

  it('no model, or two', () => {
    expect(faultOfFile('data_path: rows.json\noutput_dir: out\n')).toBe(
      'other.yaml: give model_name_or_path (a checkpoint to fine-tune) or model_config (a new model); both are missing',
    );
    expect(fault('model_config: tiny', ['model_name_or_path=null'])).toBe(
      'run.yaml:4: model_config: expected a mapping of LlamaConfig keys, got "tiny"',
    );
    expect(fault('model_config: {hidden_size: 64}')).toBe(
      'run.yaml:4: model_config: excludes model_name_or_path (run.yaml:1); keep one of the two (--set model_config=null takes it out)',
    );
  });

  it('evaluation without data', () => {
    expect(fault('eval_strategy: epoch')).toBe(
      'run.yaml:4: eval_strategy: epoch needs eval_data_path, which is missing',
    );
  });

  it('a model that LlamaConfig does not describe, naming the line of the key', () => {
    const scratch = (lines: string, ...set: string[]) => {
      writeFileSync('scratch.yaml', `data_path: rows.json\noutput_dir: out\nmodel_config:\n${lines}`);
      try {
        loadConfig('scratch.yaml', set);
        return undefined;
      } catch (error) {
        expect(error).toBeInstanceOf(UserError);
        return (error as Error).message;
      }
    };
    expect(scratch('  vocab_size: 64\n  hidden_sze: 16\n')).toBe(
      'scratch.yaml:5: model_config: unknown key "hidden_sze"; did you mean "hidden_size"?',
    );
    expect(scratch('  hidden_sze: 16\n  hidden_size: 66\n  num_key_value_heads: 3\n')).toBe(
      'scratch.yaml:4: model_config: unknown key "hidden_sze"; did you mean "hidden_size"?\n' +
        'scratch.yaml:3: model_config: num_key_value_heads is 3; it must divide num_attention_heads (32)\n' +
        'scratch.yaml:3: model_config: hidden_size is 66; it must be a multiple of num_attention_heads (32)',
    );
    expect(scratch('  vocab_size: 64\n', 'model_config.layers=2')).toBe(
      '--set model_config.layers=2: model_config: unknown key "layers"; did you mean "num_hidden_layers"?',
    );
    expect(scratch('  vocab_size: .nan\n')).toBe(
      'scratch.yaml:3: model_config: vocab_size is NaN; it must be a number',
    );
    expect(scratch('  vocab_size: -1\n  mlp_bias: 1\n')).toBe(
      'scratch.yaml:3: model_config: vocab_size is -1; it must be greater than 0\n' +
        'scratch.yaml:3: model_config: mlp_bias is 1; it must be true or false',
    );
    expect(scratch('  vocab_size: 64\n', 'model_config.hidden_size=66')).toBe(
      'scratch.yaml:3: model_config: hidden_size is 66; it must be a multiple of num_attention_heads (32)',
    );
  });

  it('no key that transformers writes into a config.json', () => {
    const fixtures = join(import.meta.dirname, '../tests/fixtures/llama');
    for (const name of readdirSync(fixtures))
      for (const file of ['config.json', 'config.v5.json']) {
        const path = join(fixtures, name, file);
        if (!existsSync(path)) continue;
        const model_config = JSON.parse(readFileSync(path, 'utf8'));
        const set = ['model_name_or_path=null', `model_config=${JSON.stringify(model_config)}`];
        expect(load('', set).model_config, path).toEqual(model_config);
      }
  });

  it('an output that would overwrite the model', () => {
    expect(fault('', ['output_dir=./model/'])).toBe(
      '--set output_dir=./model/: output_dir: must not be model_name_or_path: the run would overwrite the model it starts from',
    );
  });

  it('inputs that are not there, or are of the wrong kind', () => {
    expect(fault('', ['data_path=none.json'])).toBe(
      '--set data_path=none.json: data_path: no such file: none.json',
    );
    expect(fault('eval_data_path: model')).toBe(
      'run.yaml:4: eval_data_path: expected a file, but this is a directory: model',
    );
    expect(fault('tokenizer_name_or_path: tok')).toBe(
      'run.yaml:4: tokenizer_name_or_path: no such directory: tok (nothing is downloaded)',
    );
    expect(faultOfFile('data_path: rows.json\noutput_dir: out\nmodel_name_or_path: rows.json\n')).toBe(
      'other.yaml:3: model_name_or_path: expected a directory, but this is a file: rows.json',
    );
    expect(errorOf(() => loadConfig('none.yaml'))).toBe('none.yaml: no such file: none.yaml');
    expect(errorOf(() => loadConfig('model'))).toBe('model: expected a file, but this is a directory: model');
  });

  it('text that is not YAML, or not a mapping', () => {
    expect(fault('seed: [1,\nbf16: true\n')).toMatch(/^run.yaml:5: not valid YAML: Flow sequence/);
    expect(fault('\tseed: 1')).toMatch(/^run.yaml:4: not valid YAML: Tabs are not allowed/);
    expect(fault('seed: *x')).toMatch(/^run.yaml: not valid YAML: Unresolved alias/);
    expect(faultOfFile('- 1\n')).toBe('other.yaml: expected "key: value" lines, got [1]');
    expect(faultOfFile('')).toBe('other.yaml: expected "key: value" lines, got null');
  });

  it('a key given twice', () => {
    expect(fault('seed: 1\nbf16: true\nseed: 2\n')).toBe(
      'run.yaml:6: duplicate key "seed"; keep one of them',
    );
    writeFileSync('twice.yaml', 'seed: 1\nseed: 2\nbf16: true\nbf16: false\n');
    expect(() => loadConfig('twice.yaml')).toThrow(
      new UserError([
        'twice.yaml:2: duplicate key "seed"; keep one of them',
        'twice.yaml:4: duplicate key "bf16"; keep one of them',
      ]),
    );
  });
});

it('renderConfig writes YAML that reads back the same', () => {
  const config = load('learning_rate: 1e-3\nthreads: 2\nsave_total_limit: 1\n', ['output_dir="out/a b: c"']);
  writeFileSync('rendered.yaml', renderConfig(config));
  expect(loadConfig('rendered.yaml')).toEqual(config);
});

describe('configs/', () => {
  const recipes = readdirSync(join(home, 'configs')).filter((name) => name.endsWith('.yaml'));

  it.each(recipes)('%s is valid', (name) => {
    // Models and data come from elsewhere, so only the settings are checked.
    expect(() => loadConfig(join(home, 'configs', name), [], { checkPaths: false })).not.toThrow();
  });
});
