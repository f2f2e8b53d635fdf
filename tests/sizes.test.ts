import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bundleModules } from './child.js';
import { tinyTokenizer } from './tiny_tokenizer.js';

// What a file can make the process take before it is refused, whatever stands in it: as much as fits of what costs most.

const MOST_MIB = 600;
const MOST_SECONDS = 10;

const MIB = 2 ** 20;
let directory: string;
beforeAll(async () => {
  const modules = [
    'tokenizer/tokenizer.ts',
    'recipes/generation_config.ts',
    'bin/config.ts',
    'data/cache.ts',
  ];
  directory = mkdtempSync(join(import.meta.dirname, '../build/sizes-'));
  await bundleModules(
    modules.map((path) => join(import.meta.dirname, '..', path)),
    directory,
    { packages: 'external', splitting: true },
  );
});
afterAll(() => rmSync(directory, { recursive: true }));

/** Reads files by a line of JavaScript in a process of its own. @returns what was said, and what it took */
function load(files: Record<string, string | Buffer>, script: string) {
  const folder = mkdtempSync(join(tmpdir(), 'tstrain-sizes-'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const measured = `
    import { readFileSync } from 'node:fs';
    const kib = (key) => Number(new RegExp(key + ':\\\\s+(\\\\d+)').exec(readFileSync('/proc/self/status', 'utf8'))[1]);
    const folder = ${JSON.stringify(folder)};
    const [before, start] = [kib('VmRSS'), process.cpuUsage()];
    let said = 'accepted';
    try { await load(); } catch (error) { said = error.name + ': ' + error.message.slice(0, 300); }
    const { user, system } = process.cpuUsage(start);
    console.log(JSON.stringify({ said, mib: (kib('VmHWM') - before) / 1024, seconds: (user + system) / 1e6 }));`;
  try {
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', script + measured], {
      cwd: directory,
      encoding: 'utf8',
    });
    return JSON.parse(output) as { said: string; mib: number; seconds: number };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const tokenizer =
  'import { loadTokenizer } from "./tokenizer/tokenizer.mjs"; const load = () => loadTokenizer(folder);';
const json = tinyTokenizer();
/** tokenizer.json with the text of a value in the place of model.vocab or of the pre-tokenizer. */
function withText(place: 'vocab' | 'pre_tokenizer', text: string): Record<string, string> {
  const marked =
    place === 'pre_tokenizer'
      ? { ...json, [place]: '@' }
      : { ...json, model: { ...json.model, [place]: '@' } };
  return { 'tokenizer.json': JSON.stringify(marked).replace('"@"', () => text) };
}
const listOf = (item: string, bytes: number) =>
  `[${item},`.concat(`${item},`.repeat(bytes / (item.length + 1)), `${item}]`);
const pieces = (count: number, last: string) => {
  const known = JSON.stringify(json.model.vocab).slice(1, -1);
  return `{${known},${Array.from({ length: count }, (_, i) => `"${i.toString(36)}€":${i + 1000}`).join(',')},${last}}`;
};

it.each<[string, () => Record<string, string | Buffer>, string, string]>([
  [
    'lists in lists',
    () => ({ 'tokenizer.json': `${'['.repeat(19 * MIB)}${']'.repeat(19 * MIB)}` }),
    tokenizer,
    'tokenizer.json: has 19922944 values and keys, expected are at most 2500000',
  ],
  [
    'lists in lists, as many as are read',
    () => ({ 'tokenizer.json': `${'['.repeat(2_499_999)}${']'.repeat(2_499_999)}` }),
    tokenizer,
    'expected object, received array',
  ],
  [
    'names of special tokens that are lists',
    () => ({
      'tokenizer.json': JSON.stringify(json),
      'special_tokens_map.json': `{"additional_special_tokens":${listOf('[]', 7 * MIB)}}`,
    }),
    tokenizer,
    'special_tokens_map.json: has ',
  ],
  [
    'added tokens that are objects',
    () => ({
      'tokenizer.json': JSON.stringify({ ...json, added_tokens: '@' }).replace('"@"', () =>
        listOf('{}', 3_700_000),
      ),
    }),
    tokenizer,
    'added_tokens.0.id',
  ],
  [
    'as many pieces as are read, the last one wrong',
    () => withText('vocab', pieces(520_000, '"z":0')),
    tokenizer,
    'id 0 is both',
  ],
  [
    'a regular expression of megabytes',
    () =>
      withText(
        'pre_tokenizer',
        JSON.stringify({ type: 'Split', behavior: 'Isolated', pattern: { Regex: 'a|'.repeat(18 * MIB) } }),
      ),
    tokenizer,
    'is a pattern of more than 10000 characters',
  ],
  [
    'ids that are none',
    () => ({ 'generation_config.json': `{"eos_token_id":${listOf('""', 7 * MIB)}}` }),
    'import { readGenerationConfig } from "./recipes/generation_config.mjs"; const load = () => readGenerationConfig(folder);',
    'generation_config.json: has ',
  ],
  [
    'keys of a config',
    () => ({ 'run.yaml': Array.from({ length: 120_000 }, (_, i) => `${i}: 1\n`).join('') }),
    'import { loadConfig } from "./bin/config.mjs"; const load = () => loadConfig(folder + "/run.yaml");',
    'the settings of a run at most 65536',
  ],
])(
  '%s',
  (_, files, script, expected) => {
    const { said, mib, seconds } = load(files(), script);
    expect(said).toMatch(/^UserError: /);
    expect(said).toContain(expected);
    expect(mib).toBeLessThan(MOST_MIB);
    expect(seconds).toBeLessThan(MOST_SECONDS);
  },
  120_000,
);

it('a cache without a header is none', () => {
  const script =
    'import { readCache } from "./data/cache.mjs"; const load = () => readCache(folder + "/a.bin");';
  const { said, mib } = load({ 'a.bin': Buffer.alloc(700 * MIB, ' ') }, script);
  expect(said).toBe('accepted');
  expect(mib).toBeLessThan(MOST_MIB);
}, 60_000);
