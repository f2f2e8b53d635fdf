import { createHash } from 'node:crypto';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { loadConfig } from '../bin/config.js';
import { readCache, writeCache } from '../data/cache.js';
import { loadDataset } from '../data/index.js';
import { readRows } from '../data/sources.js';
import { loadModel } from '../engine/checkpoint/load_model.js';
import { SafetensorsFile } from '../engine/checkpoint/safetensors.js';
import { addon, defaultDevice } from '../engine/device/addon.js';
import { readLlamaConfig, renderHfConfig } from '../engine/model/config.js';
import { newestRunState } from '../engine/train/checkpoint.js';
import { UserError } from '../errors.js';
import { eosTokenIds } from '../recipes/generate.js';
import { readGenerationConfig } from '../recipes/generation_config.js';
import { reconcileSpecialIds } from '../recipes/special_ids.js';
import { loadTokenizer } from '../tokenizer/index.js';
import { writeTinyModel } from './tiny_model.js';
import { tinyTokenizer } from './tiny_tokenizer.js';

// Files of every loader, changed at random. Whatever stands in them, a loader returns or says in a short line what is
// wrong: it does not crash, hang, fail in another way, or pass control characters on.

const INPUTS = Number(process.env.TSTRAIN_FUZZ || 400);
const SEED = Number(process.env.TSTRAIN_FUZZ_SEED || 1);
/** Far above what any of these small files takes, on a machine with other work. */
const MOST_MS = 10_000;

const directory = mkdtempSync(join(tmpdir(), 'tstrain-fuzz-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** A generator of numbers below n (Marsaglia's xorshift). */
function generator(seed: number): (n: number) => number {
  let state = Math.imul(seed + 1, 0x9e3779b1) | 1;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}

type Random = ReturnType<typeof generator>;

/** What files should not hold. */
const VALUES: readonly unknown[] = [
  ...[
    null,
    true,
    false,
    0,
    -0,
    -1,
    0.5,
    1e308,
    2 ** 31,
    2 ** 53,
    65536,
    '',
    'silu',
    '\u001b[31m',
    '\u009b2J',
  ],
  ...['\ud800', '__proto__', 'x'.repeat(100_000), '../../etc/passwd', '1', [], {}, [[]], [null], [-1, 1e9]],
  ...[JSON.parse(`${'['.repeat(20_000)}${']'.repeat(20_000)}`), JSON.parse('{"__proto__": {"a": 1}}')],
];
const BYTES: readonly string[] = [
  ...[
    '\u0000',
    '\u001b]0;x\u0007',
    '\u009b',
    '\r',
    '\n',
    '"',
    '\\',
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    'e9',
    '-',
    '.',
  ],
  ...[
    'NaN',
    'Infinity',
    '1e999',
    '\ufeff',
    '&a ',
    '*a',
    '<<: *a',
    '!!js/function ',
    '? ',
    '- ',
    '[[[[',
    '{{',
  ],
  ...['['.repeat(20_000), 'a'.repeat(5000), '&a [*a]', '\u2028', '%', '|', '>'],
];

function pick<T>(random: Random, items: readonly T[]): T {
  return items[random(items.length)];
}

function changedBytes(random: Random, bytes: Buffer): Buffer {
  const at = random(bytes.length + 1);
  const to = Math.min(bytes.length, at + 1 + random(random(4) === 0 ? 4096 : 8));
  const [before, middle, after] = [bytes.subarray(0, at), bytes.subarray(at, to), bytes.subarray(to)];
  switch (random(5)) {
    case 0:
      return Buffer.from(before);
    case 1:
      return Buffer.concat([before, after]);
    case 2:
      return Buffer.concat([before, middle, middle, after]);
    case 3:
      return Buffer.concat([before, middle.map((byte) => byte ^ (1 << random(8))), after]);
    default:
      return Buffer.concat([before, Buffer.from(pick(random, BYTES)), after]);
  }
}

/** A value with something within it, or beside it, put in another's place. */
function changedValue(random: Random, value: unknown, depth = 0): unknown {
  const isInner = typeof value === 'object' && value !== null && Object.keys(value).length > 0;
  if (!isInner || (depth > 0 && random(4) === 0)) return pick(random, VALUES);
  const copy: Record<string, unknown> = Array.isArray(value) ? ([...value] as never) : { ...value };
  const key = pick(random, Object.keys(copy));
  const how = random(8);
  if (how === 0) delete copy[key];
  else if (how === 1) copy[pick(random, BYTES)] = copy[key];
  else copy[key] = changedValue(random, copy[key], depth + 1);
  return copy;
}

function changed(random: Random, bytes: Buffer): Buffer {
  for (let times = 1 + random(3); times > 0; times--) {
    try {
      if (random(2) === 0) {
        bytes = Buffer.from(JSON.stringify(changedValue(random, JSON.parse(bytes.toString()))));
        continue;
      }
    } catch {
      // Not JSON, or no longer: bytes then.
    }
    bytes = changedBytes(random, bytes);
  }
  return bytes;
}

/** A safetensors file with its header changed as a value, its length right. */
function changedHeader(random: Random, bytes: Buffer): Buffer {
  if (random(3) === 0) return changedBytes(random, bytes);
  const end = 8 + Number(bytes.readBigUInt64LE());
  const header = changed(random, bytes.subarray(8, end));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, bytes.subarray(end)]);
}

interface Loader {
  name: string;
  /** A directory to be copied, and the file in it that is changed. */
  seed: string;
  file: string;
  change: (random: Random, bytes: Buffer) => Buffer;
  load: (directory: string) => unknown;
}

async function loaders(): Promise<Loader[]> {
  const model = await writeTinyModel();
  const fixtures = join(import.meta.dirname, 'fixtures/checkpoint');
  const own = (name: string, files: Record<string, string>) => {
    const path = join(directory, name);
    mkdirSync(path);
    for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text);
    return path;
  };
  const run = own('run', {
    'rows.json': '[]',
    'run.yaml':
      '# a run\nmodel_config:\n  vocab_size: 8\n  hidden_size: 8\n  num_attention_heads: 2\n  rope_scaling: null\n' +
      'data_path: rows.json\noutput_dir: out\nlearning_rate: 2e-5\nbf16: true\neval_strategy: "no"\n',
  });
  const rows = own('rows', {
    'rows.json': JSON.stringify([
      { instruction: 'a', input: '', output: 'b' },
      { instruction: 'é\n', output: '😀' },
    ]),
    'ids.jsonl': `${JSON.stringify({ ids: [1, 2, 3], labels: [-100, 2, 3] })}\n{"ids": [4, 5], "prompt_len": 1}\n`,
  });
  const cache = own('cache', {});
  const encoded = {
    ids: Int32Array.of(1, 2, 3),
    labels: Int32Array.of(-100, 2, 3),
    lengths: Int32Array.of(3),
    truncated: Int32Array.of(0),
    emptyOutputs: [],
    unreadKeys: new Map(),
  };
  await writeCache(join(cache, 'a.bin'), encoded, '0');
  const state = {
    version: 2,
    step: 1,
    total_steps: 2,
    since_line: { steps: 0, loss: 0, tokens: 0, label_tokens: 0, milliseconds: 0, measures: {} },
    objective: 'next_token',
    data_hash: 'x',
    model: { vocab_size: 8 },
    config: { seed: 1 },
    machine: { threads: 1, instruction_set: 'sse', bf16_gemm: '', onednn: '', tstrain: '1', node: '22' },
  };
  const checkpoint = own('checkpoint', {
    'config.json': '{}',
    'optimizer.safetensors': '',
    'trainer_state.json': JSON.stringify(state),
  });
  const open = async (path: string) => (await loadModel(path)).model.dispose();
  const all = async (path: string) => {
    for await (const _ of readRows(path));
  };
  /** As `output_dir`/checkpoint-1, with a manifest that is right unless it is what was changed. */
  const resume = (manifest?: string) => (path: string) => {
    const target = join(path, '..', 'output', 'checkpoint-1');
    rmSync(join(target, '..'), { recursive: true, force: true });
    cpSync(path, target, { recursive: true });
    const files = readdirSync(target)
      .filter((file) => file !== manifest)
      .map((file) => ({
        file,
        bytes: statSync(join(target, file)).size,
        sha256: createHash('sha256')
          .update(readFileSync(join(target, file)))
          .digest('hex'),
      }));
    if (manifest === undefined) writeFileSync(join(target, 'manifest.json'), JSON.stringify({ files }));
    return newestRunState(join(target, '..'));
  };
  const withManifest = own('manifest', {
    'config.json': '{}',
    'manifest.json': '{"files":[{"file":"config.json","bytes":2,"sha256":"x"}]}',
  });
  // Each of the sources of BOS and EOS says something else.
  const sources = join(directory, 'sources');
  cpSync(model, sources, { recursive: true });
  const write = (name: string, value: unknown) => writeFileSync(join(sources, name), JSON.stringify(value));
  write('generation_config.json', { bos_token_id: 1, eos_token_id: [2, 7], temperature: 0.6 });
  write('tokenizer_config.json', { tokenizer_class: 'LlamaTokenizer', add_bos_token: true });
  write('special_tokens_map.json', { bos_token: '<s>', eos_token: { content: '<|end|>' } });
  write('added_tokens.json', { '<|end|>': Object.keys(tinyTokenizer().model.vocab).length });
  const dataset = await loadDataset({
    path: join(rows, 'ids.jsonl'),
    modelMaxLength: 8,
    keepUnlabelledRows: true,
    threads: 1,
    cacheDirectory: join(directory, 'encoded'),
  });
  /** What training and generating make of them; what is saved of it is JSON. */
  const specialIds = async (path: string) => {
    const sources = {
      model: readLlamaConfig(path),
      isNew: false,
      generation: readGenerationConfig(path),
      tokenizer: await loadTokenizer(path),
    };
    eosTokenIds(path, sources.model, sources.tokenizer);
    for (const form of ['alpaca', 'tokens'] as const) {
      const report = { ...dataset.report, form };
      const { model, generationConfig } = reconcileSpecialIds({
        ...sources,
        dataset: { ...dataset, report },
      });
      JSON.parse(renderHfConfig(model));
      JSON.parse(generationConfig ?? '{}');
    }
  };
  const tokenizer = async (path: string) => (await loadTokenizer(path)).encode('low <s> é\n');
  const json = { change: changed };
  return [
    {
      name: 'config',
      seed: run,
      file: 'run.yaml',
      ...json,
      load: (path) => loadConfig(join(path, 'run.yaml')),
    },
    { name: 'rows', seed: rows, file: 'rows.json', ...json, load: (path) => all(join(path, 'rows.json')) },
    { name: 'ids', seed: rows, file: 'ids.jsonl', ...json, load: (path) => all(join(path, 'ids.jsonl')) },
    { name: 'tokenizer', seed: model, file: 'tokenizer.json', ...json, load: tokenizer },
    { name: 'tokenizer config', seed: model, file: 'tokenizer_config.json', ...json, load: tokenizer },
    {
      name: 'config.json',
      seed: model,
      file: 'config.json',
      ...json,
      load: (path) => renderHfConfig(readLlamaConfig(path)),
    },
    { name: 'model config', seed: model, file: 'config.json', ...json, load: open },
    {
      name: 'safetensors',
      seed: model,
      file: 'model.safetensors',
      change: changedHeader,
      load: (path) => SafetensorsFile.open(join(path, 'model.safetensors')).close(),
    },
    { name: 'weights', seed: model, file: 'model.safetensors', change: changedHeader, load: open },
    {
      name: 'index',
      seed: join(fixtures, 'sharded'),
      file: 'model.safetensors.index.json',
      ...json,
      load: open,
    },
    ...[
      'generation_config.json',
      'special_tokens_map.json',
      'added_tokens.json',
      'tokenizer_config.json',
      'config.json',
    ].map((file) => ({ name: `special ids, ${file}`, seed: sources, file, ...json, load: specialIds })),
    { name: 'state', seed: checkpoint, file: 'trainer_state.json', ...json, load: resume() },
    { name: 'manifest', seed: withManifest, file: 'manifest.json', ...json, load: resume('manifest.json') },
    {
      name: 'cache',
      seed: cache,
      file: 'a.bin',
      change: changedBytes,
      load: (path) => readCache(join(path, 'a.bin')),
    },
  ];
}

it(`${INPUTS} changed files: no crash, no hang, no control character, no long message`, async () => {
  const home = process.cwd();
  const before = addon.stats(defaultDevice()).heapBytes;
  const counts: Record<string, { inputs: number; refused: number }> = {};
  const all = await loaders();
  const seeds = new Map(all.map(({ name, seed, file }) => [name, readFileSync(join(seed, file))]));
  for (const { name, seed } of all) cpSync(seed, join(directory, 'work', name), { recursive: true });
  for (let i = 0; i < INPUTS; i++) {
    const { name, file, change, load } = all[i % all.length];
    const random = generator(SEED * 1_000_003 + i);
    const place = join(directory, 'work', name);
    const bytes = change(random, seeds.get(name)!);
    writeFileSync(join(place, file), bytes);
    const told = `input ${i} of TSTRAIN_FUZZ_SEED=${SEED}, ${name}: ${JSON.stringify(bytes.toString().slice(0, 400))}`;
    counts[name] ??= { inputs: 0, refused: 0 };
    counts[name].inputs++;
    const start = performance.now();
    // Relative paths of the config lead to its rows.
    process.chdir(place);
    try {
      await load(place);
    } catch (error) {
      const { message, stack } = error as Error;
      expect(error, `${told}\n${stack}`).toBeInstanceOf(UserError);
      // A line of each fault.
      expect(message, told).not.toMatch(/[^\P{Cc}\t\n]/u);
      expect(Buffer.byteLength(message), told).toBeLessThanOrEqual(2000);
      counts[name].refused++;
    } finally {
      process.chdir(home);
    }
    expect(performance.now() - start, told).toBeLessThan(MOST_MS);
  }
  expect(addon.stats(defaultDevice()).heapBytes).toBe(before);
  // A change that is never noticed would test nothing.
  if (process.env.TSTRAIN_FUZZ) console.log(JSON.stringify(counts));
  for (const [name, { refused }] of Object.entries(counts))
    if (!['state', 'manifest', 'cache'].includes(name)) expect(refused, name).toBeGreaterThan(0);
}, 3_600_000);
