import { readdirSync, readFileSync } from 'node:fs';
import { join, normalize, relative } from 'node:path';
import { describe, expect, it } from 'vitest';

// The rooms of docs/design.md: which way imports point, and who alone may do what.
const root = join(import.meta.dirname, '..');

/** What each room imports from, besides itself and packages. */
const MAY_IMPORT: Record<string, string[]> = {
  'index.ts': ['recipes', 'tokenizer', 'engine'],
  bin: ['recipes', 'data', 'tokenizer', 'quickstart', 'engine'],
  recipes: ['data', 'tokenizer', 'quickstart', 'engine'],
  quickstart: ['data', 'tokenizer'],
  data: ['tokenizer'],
  tokenizer: [],
  engine: [],
  'batch.ts': [],
  'errors.ts': [],
  'files.ts': [],
};
/** What all share. */
const SHARED = ['batch.ts', 'errors.ts', 'files.ts'];

/** Sources that are shipped: tests import what they compare. */
const sources = Object.keys(MAY_IMPORT)
  .flatMap((room) => {
    if (room.endsWith('.ts')) return [room];
    const files = readdirSync(join(root, room), { recursive: true, encoding: 'utf8' });
    return files.map((file) => `${room}/${file}`);
  })
  .filter((file) => file.endsWith('.ts') && !/\.(test|cases|d)\.ts$/.test(file));
const textOf = (file: string) => readFileSync(join(root, file), 'utf8');

/** The files of this project that a file imports, types included, by static and dynamic imports. */
function importsOf(file: string): string[] {
  const paths = textOf(file).matchAll(/(?:from|import|import\() ?'(\.[^']+)\.js'/g);
  return [...paths].map(([, path]) => relative(root, normalize(join(root, file, '..', `${path}.ts`))));
}

const roomOf = (file: string) => file.split('/')[0];

it.each(Object.entries(MAY_IMPORT))('%s imports from %j alone', (room, others) => {
  const files = sources.filter((file) => roomOf(file) === room);
  expect(files).not.toEqual([]);
  const arrows = files.flatMap((file) =>
    importsOf(file)
      .filter((target) => ![room, ...others, ...SHARED].includes(roomOf(target)))
      .map((target) => `${file} -> ${target}`),
  );
  expect(arrows).toEqual([]);
});

it('the imports are found: a command comes to all below it', () => {
  const reached = new Set(['bin/tstrain.ts']);
  for (const file of reached)
    for (const target of importsOf(file)) if (sources.includes(target)) reached.add(target);
  for (const file of [
    'recipes/finetune.ts',
    'data/json_values.ts',
    'engine/train/loop.ts',
    'engine/device/addon.ts',
  ])
    expect(reached).toContain(file);
});

describe('only', () => {
  it.each([
    ['engine/device loads the addon', /tstrain\.node/, /^engine\/device\//],
    ['ops, optim and kernels call the op table', /addon\.ops/, /^engine\/(ops|optim|device|tfjs\/kernels)\//],
    // optimizer_offload: cpu is the setting's word, which others know too.
    ["TF.js's own CPU backend is named", /^(?!.*optimizer_offload).*'cpu'/m, /^engine\/(tfjs|machine)\//],
    [
      'commands read words and print',
      /from 'commander'|console\.(log|error)|process\.(exit|argv)\b/,
      /^bin\//,
    ],
  ])('%s', (_, pattern, where) => {
    const users = sources.filter((file) => pattern.test(textOf(file)));
    expect(users).not.toEqual([]);
    expect(users.filter((file) => !where.test(file))).toEqual([]);
  });
});
