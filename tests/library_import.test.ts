import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { build } from 'esbuild';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { startScript } from './child.js';

// The library as its users have it, compiled, in processes where nothing else has loaded the addon.

const root = join(import.meta.dirname, '..');
let directory: string;
beforeAll(async () => {
  mkdirSync(join(root, 'build'), { recursive: true });
  directory = mkdtempSync(join(root, 'build/library-'));
  await build({
    // What the library keeps to itself, the child asks for beside it.
    stdin: {
      contents: "export * from './index.js'; export { addon } from './engine/device/addon.js';",
      resolveDir: root,
    },
    outfile: join(directory, 'tstrain.mjs'),
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
  });
});
afterAll(() => rmSync(directory, { recursive: true }));
afterEach(() => {
  vi.unstubAllEnvs();
});

/** What `body` writes into `report`, in a process that has imported the library and nothing else. */
async function afterImport(body: string): Promise<Record<string, unknown>> {
  const child = startScript(
    directory,
    `import { readFileSync } from 'node:fs';
    import * as tf from '@tensorflow/tfjs-core';
    const look = () => {
      const maps = readFileSync('/proc/self/maps', 'utf8');
      return { addon: maps.includes('tstrain.node'), openmp: maps.includes('libgomp'), env: { ...process.env } };
    };
    const before = look();
    const { addon, nativeOf, NativeTensor, setThreads } = await import('./tstrain.mjs');
    const refusal = (call) => {
      try {
        call();
      } catch (error) {
        return error.message;
      }
    };
    const report = {};
    ${body}
    process.stdout.write(JSON.stringify(report));`,
  );
  const output = text(child.stdout!);
  const [status] = await once(child, 'exit');
  expect(status).toBe(0);
  return JSON.parse(await output);
}

it('importing the library loads nothing native and sets nothing; its first use does', async () => {
  vi.stubEnv('TSTRAIN_NUM_THREADS', '2');
  const report = await afterImport(`
    Object.assign(report, { before, imported: look(), allocated: NativeTensor.onHeap('cpu', 'float32', [2]).size });
    Object.assign(report, { used: look(), threads: addon.info().threads });`);
  const { before, imported, used } = report as Record<
    string,
    { addon: boolean; openmp: boolean; env: object }
  >;
  expect(before).toMatchObject({ addon: false, openmp: false });
  expect(imported).toEqual(before);
  expect(used).toMatchObject({ addon: true, openmp: true, env: { GOMP_SPINCOUNT: '30000' } });
  expect(report).toMatchObject({ allocated: 2, threads: 2 });
});

it('TF.js loads it with the backend, and threads that were set before stay', async () => {
  vi.stubEnv('TSTRAIN_NUM_THREADS', 'many');
  const report = await afterImport(`
    setThreads(1);
    await tf.setBackend('native');
    report.values = [...nativeOf(tf.square(tf.tensor1d([1, 2]))).floats()];
    report.threads = addon.info().threads;`);
  expect(report).toEqual({ values: [1, 4], threads: 1 });
});

it('says at the first use why it does not work', async () => {
  vi.stubEnv('TSTRAIN_ADDON', '/nowhere/tstrain.node');
  const missing = await afterImport(`
    report.alloc = refusal(() => NativeTensor.onHeap('cpu', 'float32', [2]));
    report.threads = refusal(() => setThreads(1));
    report.tensor = refusal(() => nativeOf(tf.tensor1d([1, 2])));`);
  const reason = '/nowhere/tstrain.node is missing; TSTRAIN_ADDON names it';
  expect(missing).toEqual({ alloc: reason, threads: reason, tensor: reason });

  vi.unstubAllEnvs();
  vi.stubEnv('TSTRAIN_NUM_THREADS', 'many');
  const unset = await afterImport(`
    report.alloc = refusal(() => NativeTensor.onHeap('cpu', 'float32', [2]));
    setThreads(1);
    report.size = NativeTensor.onHeap('cpu', 'float32', [2]).size;`);
  expect(unset).toEqual({
    alloc: 'TSTRAIN_NUM_THREADS: expected a whole number from 1 to 1024, got "many"',
    size: 2,
  });
});
