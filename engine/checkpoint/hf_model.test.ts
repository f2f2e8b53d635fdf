import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UserError } from '../../errors.js';
import { type HostTensor, readSafetensors } from '../../tests/read_safetensors.js';
import { addon, defaultDevice } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';
import {
  type LlamaConfig,
  parseLlamaConfig,
  readLlamaConfig,
  renderHfConfig,
  toHfConfig,
} from '../model/config.js';
import { layoutOf } from '../model/layout.js';
import { causalLmSpecs } from '../model/specs.js';
import { checkHfWeights, loadHfWeights, saveHfWeights, type WeightSet } from './hf_model.js';
import { writeSafetensors } from './safetensors_writer.js';

const FIXTURES = join(import.meta.dirname, '../../tests/fixtures/checkpoint');

/** Weights of a model, filled with a value that no test file holds. */
class HeapWeights implements WeightSet {
  readonly entries;
  private readonly tensors: Map<string, NativeTensor>;

  constructor(config: LlamaConfig) {
    this.entries = layoutOf(causalLmSpecs(config)).entries;
    this.tensors = new Map(
      this.entries.map(({ name, shape, size }) => [
        name,
        NativeTensor.from(defaultDevice(), new Float32Array(size).fill(12345), shape),
      ]),
    );
  }

  tensor(name: string): NativeTensor {
    const tensor = this.tensors.get(name)!;
    return tensor.view(tensor.shape);
  }

  values(): Record<string, Float32Array> {
    return Object.fromEntries([...this.tensors].map(([name, tensor]) => [name, tensor.floats()]));
  }

  dispose(): void {
    for (const tensor of this.tensors.values()) tensor.dispose();
  }
}

/** The weights of a fixture as the loader reads them, and what it returns. */
async function load(directory: string) {
  const config = readLlamaConfig(directory);
  const weights = new HeapWeights(config);
  try {
    checkHfWeights(directory, config);
    const { unused: unexpected, notes } = await loadHfWeights(directory, config, weights);
    return { config, unexpected, notes, values: weights.values() };
  } finally {
    weights.dispose();
  }
}

const floatsOf = (tensors: Map<string, HostTensor>) =>
  Object.fromEntries([...tensors].map(([name, { data }]) => [name, data]));

let heapBytes = 0;
let scratch = '';
beforeEach(() => {
  heapBytes = addon.stats(defaultDevice()).heapBytes;
  scratch = mkdtempSync(join(tmpdir(), 'tstrain-hf-'));
});
afterEach(() => {
  rmSync(scratch, { recursive: true });
  expect(addon.stats(defaultDevice()).heapBytes).toBe(heapBytes);
});

describe('loadHfWeights', () => {
  it.each(['bf16', 'fp16'])('reads %s weights as the float32 values they stand for', async (format) => {
    const { values, unexpected } = await load(join(FIXTURES, format));
    expect(values).toEqual(floatsOf(readSafetensors(join(FIXTURES, format, 'expected_f32.safetensors'))));
    expect(unexpected).toEqual([]);
  });

  it('reads shards through their index', async () => {
    const directory = join(FIXTURES, 'sharded');
    const shards = readdirSync(directory).filter((name) => name.endsWith('.safetensors'));
    expect(shards).toHaveLength(3);
    const expected = Object.assign({}, ...shards.map((s) => floatsOf(readSafetensors(join(directory, s)))));
    expect((await load(directory)).values).toEqual(expected);
  });

  it('reads a tied model with and without lm_head.weight alike', async () => {
    const present = await load(join(FIXTURES, 'tied-present'));
    const absent = await load(join(FIXTURES, 'tied-absent'));
    expect(present.values).toEqual(absent.values);
    expect(Object.keys(present.values)).not.toContain('lm_head.weight');
    expect(present.unexpected).toEqual([]);
  });

  it('refuses a tied model whose lm_head.weight is not the embedding', async () => {
    const source = join(FIXTURES, 'sharded');
    for (const name of readdirSync(source))
      writeFileSync(join(scratch, name), readFileSync(join(source, name)));
    const config = toHfConfig(readLlamaConfig(source));
    writeFileSync(join(scratch, 'config.json'), JSON.stringify({ ...config, tie_word_embeddings: true }));
    await expect(load(scratch)).rejects.toThrow(
      'lm_head.weight differs from model.embed_tokens.weight although tie_word_embeddings is true',
    );
  });

  it('returns the tensors that the model has no use for, without the buffers of old versions', async () => {
    const { config, values } = await load(join(FIXTURES, 'broken/ok'));
    const names = [
      ...Object.keys(values),
      'model.layers.0.self_attn.rotary_emb.inv_freq',
      'value_head.weight',
    ];
    const tensors = names.map((name) => ({
      name,
      tensor: NativeTensor.from(
        defaultDevice(),
        values[name] ?? Float32Array.of(1),
        layoutOf(causalLmSpecs(config)).entries.find((entry) => entry.name === name)?.shape,
      ),
    }));
    await writeSafetensors(join(scratch, 'model.safetensors'), tensors);
    for (const { tensor } of tensors) tensor.dispose();
    writeFileSync(join(scratch, 'config.json'), JSON.stringify(toHfConfig(config)));
    expect(await load(scratch)).toMatchObject({ values, unexpected: ['value_head.weight'] });
  });

  describe('as transformers does, with a line that says so, reads', () => {
    /** Copies a fixture to `scratch`, its weights in one file under the names that `rename` gives them. */
    async function copyRenamed(fixture: string, rename: (name: string) => string | undefined) {
      const source = join(FIXTURES, fixture);
      writeFileSync(join(scratch, 'config.json'), readFileSync(join(source, 'config.json')));
      const tensors = [...readSafetensors(join(source, 'model.safetensors'))].flatMap(
        ([name, { data, shape }]) => {
          const renamed = rename(name);
          return renamed === undefined
            ? []
            : [{ name: renamed, tensor: NativeTensor.from(defaultDevice(), data, shape) }];
        },
      );
      await writeSafetensors(join(scratch, 'model.safetensors'), tensors);
      for (const { tensor } of tensors) tensor.dispose();
    }

    it('a tied model that stores only lm_head.weight', async () => {
      await copyRenamed('tied-present', (name) => (name === 'model.embed_tokens.weight' ? undefined : name));
      const { values, unexpected, notes } = await load(scratch);
      expect(values).toEqual((await load(join(FIXTURES, 'tied-absent'))).values);
      expect(unexpected).toEqual([]);
      expect(notes).toEqual([
        `${scratch}: has lm_head.weight alone, which is model.embed_tokens.weight too, for they are tied`,
      ]);
    });

    it('a tied model that was saved as LlamaModel', async () => {
      await copyRenamed('tied-absent', (name) => name.replace('model.', ''));
      const { values, unexpected, notes } = await load(scratch);
      expect(values).toEqual((await load(join(FIXTURES, 'tied-absent'))).values);
      expect(unexpected).toEqual([]);
      expect(notes).toEqual([
        `${scratch}: names of tensors lack "model.", as LlamaModel saves them; read as with it`,
      ]);
    });

    it('an index that names rotary buffers no shard has, and leaves a tensor out', async () => {
      const source = join(FIXTURES, 'sharded');
      for (const name of readdirSync(source))
        writeFileSync(join(scratch, name), readFileSync(join(source, name)));
      const path = join(scratch, 'model.safetensors.index.json');
      const { metadata, weight_map } = JSON.parse(readFileSync(path, 'utf8'));
      const [shard] = Object.values<string>(weight_map);
      for (const layer of [0, 1]) weight_map[`model.layers.${layer}.self_attn.rotary_emb.inv_freq`] = shard;
      delete weight_map['model.norm.weight'];
      writeFileSync(path, JSON.stringify({ metadata, weight_map }));
      const { values, unexpected, notes } = await load(scratch);
      expect(values).toEqual((await load(source)).values);
      expect(unexpected).toEqual([]);
      expect(notes).toEqual([
        `${path}: puts 2 tensors in shards that do not have them, such as ` +
          'model.layers.0.self_attn.rotary_emb.inv_freq; the model needs none of them',
      ]);
    });

    it('but not an untied model saved as LlamaModel, which has no head', async () => {
      await copyRenamed('broken/ok', (name) =>
        name === 'lm_head.weight' ? undefined : name.replace('model.', ''),
      );
      await expect(load(scratch)).rejects.toThrow(
        'the weights have no tensor lm_head.weight; tie_word_embeddings is false',
      );
    });
  });

  it('writes whole numbers as floats where transformers insists on them', () => {
    const rope_scaling = { rope_type: 'linear', factor: 4 };
    const config = parseLlamaConfig({ rope_scaling, initializer_range: 1, rope_theta: 500000 }, 'test');
    const text = renderHfConfig(config);
    expect(text).toMatch(/"factor": 4\.0\n/);
    expect(text).toMatch(/"initializer_range": 1\.0,/);
    expect(text).toMatch(/"rope_theta": 500000\.0,/);
    expect(text).toMatch(/"rms_norm_eps": 0\.000001,/);
    expect(text).toMatch(/"hidden_size": 4096,/);
    expect(JSON.parse(text)).toEqual(toHfConfig(config));
  });

  it('says what is missing from a directory without safetensors files', async () => {
    writeFileSync(join(scratch, 'config.json'), '{}');
    const target: WeightSet = { entries: [], tensor: () => expect.fail('nothing to read') };
    await expect(loadHfWeights(scratch, readLlamaConfig(scratch), target)).rejects.toThrow(
      `${scratch}: has neither model.safetensors nor model.safetensors.index.json`,
    );
  });
});

interface BrokenCase {
  dir: string;
  refuse: boolean;
  what: string;
  must_name: string[];
  must_name_any?: string[];
}

describe('broken checkpoints', () => {
  const cases: BrokenCase[] = JSON.parse(readFileSync(join(FIXTURES, 'broken/expect.json'), 'utf8'));

  it.each(cases.filter((c) => c.refuse))('$dir: $what', async ({ dir, must_name, must_name_any }) => {
    const error = await load(join(FIXTURES, 'broken', dir)).then(
      () => expect.fail('it was loaded'),
      (reason: unknown) => reason as Error,
    );
    expect(error).toBeInstanceOf(UserError);
    for (const name of must_name) expect(error.message).toContain(name);
    if (must_name_any?.length)
      expect(
        must_name_any.some((name) => error.message.includes(name)),
        error.message,
      ).toBe(true);
  });

  it('loads the one that is not broken', async () => {
    const { values } = await load(join(FIXTURES, 'broken/ok'));
    expect(values).toEqual(floatsOf(readSafetensors(join(FIXTURES, 'broken/ok/model.safetensors'))));
  });
});

describe('saveHfWeights', () => {
  it.each([
    ['one file', 1e9, ['config.json', 'model.safetensors']],
    [
      'shards',
      80_000,
      [
        'config.json',
        'model-00001-of-00003.safetensors',
        'model-00002-of-00003.safetensors',
        'model-00003-of-00003.safetensors',
        'model.safetensors.index.json',
      ],
    ],
  ])('writes %s that reads back bit by bit', async (_, maxShardBytes, files) => {
    const config = readLlamaConfig(join(FIXTURES, 'sharded'));
    const weights = new HeapWeights(config);
    await loadHfWeights(join(FIXTURES, 'sharded'), config, weights);
    const digests = await saveHfWeights(scratch, config, weights, { maxShardBytes });
    const saved = weights.values();
    weights.dispose();

    expect(readdirSync(scratch).sort()).toEqual(files);
    expect(digests.map((digest) => digest.file).sort()).toEqual(files);
    const again = await load(scratch);
    expect(again.values).toEqual(saved);
    expect(again.unexpected).toEqual([]);
    expect({ ...again.config, raw: {} }).toEqual({ ...config, raw: {} });
  });

  it('names all files and all bytes in the index', async () => {
    const config = readLlamaConfig(join(FIXTURES, 'sharded'));
    const weights = new HeapWeights(config);
    await saveHfWeights(scratch, config, weights, { maxShardBytes: 80_000 });
    weights.dispose();
    const index = JSON.parse(readFileSync(join(scratch, 'model.safetensors.index.json'), 'utf8'));
    const theirs = JSON.parse(readFileSync(join(FIXTURES, 'sharded/model.safetensors.index.json'), 'utf8'));
    expect(Object.keys(index.weight_map).sort()).toEqual(Object.keys(theirs.weight_map).sort());
    expect(index.metadata.total_size).toBe(theirs.metadata.total_size);
  });
});

it('headers with more tensors than any LLaMA has are refused before they are kept', async () => {
  const config = readLlamaConfig(join(FIXTURES, 'sharded'));
  const weight_map: Record<string, string> = {};
  const header = Buffer.from(`{"__metadata__":{"filler":"${'x'.repeat(6 * 2 ** 20)}"}}`);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  for (const i of [1, 2, 3]) {
    writeFileSync(join(scratch, `${i}.safetensors`), Buffer.concat([length, header]));
    weight_map[`filler.${i}`] = `${i}.safetensors`;
  }
  writeFileSync(join(scratch, 'model.safetensors.index.json'), JSON.stringify({ weight_map }));
  expect(() => checkHfWeights(scratch, config)).toThrow(
    `${scratch}: the headers of its safetensors files have more than 16777216 bytes together`,
  );
});

describe('an index', () => {
  it.each([
    ['/etc/passwd', 'outside the directory'],
    ['..', 'outside the directory'],
    ['sub/../../x.safetensors', 'outside the directory'],
    ['.', 'outside the directory'],
    [7, 'it must be a file name'],
  ])('that puts a tensor in %j is refused', async (shard, why) => {
    mkdirSync(join(scratch, 'sub'));
    writeFileSync(join(scratch, 'config.json'), '{}');
    writeFileSync(
      join(scratch, 'model.safetensors.index.json'),
      JSON.stringify({ weight_map: { 'model.norm.weight': shard } }),
    );
    const target: WeightSet = { entries: [], tensor: () => expect.fail('nothing to read') };
    await expect(loadHfWeights(scratch, readLlamaConfig(scratch), target)).rejects.toThrow(why);
  });
});
