import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');

/** Builds the package and packs it into `directory`, as whoever gives it to others would; returns the tarball's path. */
export function pack(directory: string): string {
  execFileSync(process.execPath, [join(root, 'scripts/build.mjs')], { stdio: 'pipe' });
  const packed = execFileSync(
    'npm',
    ['pack', '--ignore-scripts', '--json', '--pack-destination', directory],
    {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  return join(directory, JSON.parse(packed)[0].filename);
}

/**
 * A compiler for CXX that does not optimise: an addon is made in a fraction of the time, and computes the same up to
 * rounding.
 */
export function hastyCompiler(directory: string): string {
  const file = join(directory, 'hasty-g++');
  writeFileSync(file, '#!/bin/sh\nexec g++ "$@" -O0\n');
  chmodSync(file, 0o755);
  return file;
}

/** How a compiler may look packages up, and the `module` that goes with it. */
const RESOLUTIONS = { bundler: 'esnext', node16: 'node16' };

/** Compiles programs in `directory`, with none of tsc's checks left out; returns what it says. */
function compile(directory: string, programs: string, moduleResolution: string): string[] {
  const compilerOptions = {
    target: 'ES2023',
    lib: ['ES2023'],
    module: RESOLUTIONS[moduleResolution as keyof typeof RESOLUTIONS],
    moduleResolution,
    strict: true,
    skipLibCheck: false,
    types: ['node'],
    typeRoots: [join(root, 'node_modules/@types')],
  };
  writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: [programs] }));
  const tsc = [join(root, 'node_modules/typescript/bin/tsc'), '--pretty', 'false'];
  const { stdout } = spawnSync(process.execPath, tsc, { cwd: directory, encoding: 'utf8' });
  return stdout.split('\n').filter((line) => line !== '');
}

/**
 * Compiles the programs in `directory`.
 *
 * @returns what tsc says of them and of all declarations, by moduleResolution, but not what it says of
 *   TF.js: its declarations speak of browsers and do not check without skipLibCheck, and whoever imports it has that
 *   already
 */
export function complaintsOf(directory: string): Record<string, string[]> {
  writeFileSync(
    join(directory, 'tfjs.ts'),
    "import * as tf from '@tensorflow/tfjs-core';\nexport const { grad } = tf;\n",
  );
  return Object.fromEntries(
    Object.keys(RESOLUTIONS).map((resolution) => {
      const ofTfjs = compile(directory, 'tfjs.ts', resolution);
      const all = compile(directory, '*.ts', resolution);
      return [resolution, all.filter((line) => !ofTfjs.includes(line))];
    }),
  );
}
