import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { buildSimulator, simulated } from '../../tests/cudasim/run.mjs';
import { root } from '../paths.js';
import { configOf } from '../shapes.js';
import { DOCUMENT, expected, kernelWork, limit, stepSeconds, withTables } from './expected.js';
import { modelFlops } from './model_flops.js';
import { CARDS, PEAKS } from './rates.js';
import { stepOf } from './step.js';

it('docs/cuda.md has the tables as they are: node dist/benchmarks/card/expected.js makes them', async () => {
  const text = readFileSync(DOCUMENT, 'utf8');
  expect(await withTables(text)).toBe(text);
}, 300_000);

it('says something of every kernel, and expects none to be faster than its limit', () => {
  const files = readdirSync(join(root, 'engine/native/cuda')).filter((name) => name.endsWith('.cu'));
  const text = readFileSync(DOCUMENT, 'utf8');
  for (const file of files) expect(text).toMatch(new RegExp(`\\b${file.replace('.cu', '')}\\b`));
  for (const [op, work] of kernelWork())
    for (const card of CARDS)
      expect(expected(work, card, configOf('7b')), op).toBeGreaterThanOrEqual(limit(work, card));
});

it('has the peaks that the sweep of products has', () => {
  const sweep = readFileSync(join(root, 'benchmarks/card/gemm_sweep.cpp'), 'utf8');
  const [, list] = /kPeaks\[\] = \{([^;]*)\};/.exec(sweep)!;
  const peaks = [...list.matchAll(/\{"([^"]+)", ([\d.]+)\}/g)].map(([, card, tflops]) => [
    card,
    Number(tflops),
  ]);
  expect(PEAKS).toEqual(peaks);
  for (const { name, peakFlops } of CARDS)
    expect(PEAKS.find(([card]) => card === name)![1] * 1e12).toBe(peakFlops);
});

it("counts a token's FLOPs as LLM.Q does", () => {
  // 6 · (32 · (4 · 4096² + 3 · 4096 · 11008) + 32000 · 4096) + 6 · 32 · 4096 · 512
  expect(modelFlops(configOf('7b'), 512)).toBe(6 * 6_607_077_376 + 402_653_184);
  // A tied embedding is the head.
  const { hiddenSize, vocabSize } = configOf('110m');
  const blocks = 12 * (4 * 768 ** 2 + 3 * 768 * 2048);
  expect(modelFlops(configOf('110m'), 512)).toBe(6 * (blocks + hiddenSize * vocabSize) + 6 * 12 * 768 * 512);
});

it('finds the products of a step to be what the model computes, and recomputation on top', () => {
  const config = configOf('1.1b');
  const flops = (gradientCheckpointing: boolean) =>
    stepOf(config, { rows: 2, length: 64, gradientCheckpointing })
      .microBatch.filter(({ op }) => op === 'gemm')
      .reduce((sum, { work }) => sum + work.flops, 0);
  const { vocabSize, hiddenSize } = config;
  // The head sees 126 of the 128 tokens.
  const head = 6 * vocabSize * hiddenSize;
  const attention = 6 * 22 * 2048 * 64;
  expect(flops(false)).toBe((modelFlops(config, 64) - attention - head) * 128 + head * 126);
  expect(flops(true)).toBeCloseTo(flops(false) + ((modelFlops(config, 64) - attention - head) * 128) / 3, -3);
  const step = stepOf(config, { rows: 8, length: 512 });
  const [h100, h200] = CARDS.map((card) => stepSeconds(step, 8, card, config));
  expect(h200).toBeLessThan(h100);
  expect(stepSeconds(step, 1, CARDS[0], config)).toBeGreaterThan(h100 / 8);
});

describe('the launches of a step, on the simulated card', () => {
  beforeAll(() => buildSimulator(), 120_000);

  /** Whether a step goes through when the card's launch of that number fails; and the launches that are expected. */
  function train(failing: number): { launches: number; failed: boolean } {
    const module = (path: string) => JSON.stringify(pathToFileURL(join(root, 'dist', path)).href);
    const program = `
      import { callsOf, stepOf } from ${module('benchmarks/card/step.js')};
      import { configOf } from ${module('benchmarks/shapes.js')};
      import { NativeTensor } from ${module('engine/device/native_tensor.js')};
      let failed = false;
      const calls = callsOf(() => {
        try {
          stepOf({ ...configOf('260k'), numHiddenLayers: 2 }, { rows: 2, length: 40, device: 'cuda' });
          NativeTensor.from('cuda', Float32Array.of(1)).read();
        } catch { failed = true; }
      });
      console.log(JSON.stringify({ failed, launches: calls.reduce((sum, { work }) => sum + work.launches, 0) }));`;
    const env = {
      ...process.env,
      ...simulated(null),
      TSTRAIN_CUBLASLT: '0',
      // What is recorded is not launched.
      TSTRAIN_CUDA_GRAPHS: '0',
      CUDASIM_FAIL: `launch:${failing}`,
    };
    const options = { encoding: 'utf8', env } as const;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], options);
    if (!stdout.startsWith('{')) throw new Error(stderr);
    return JSON.parse(stdout);
  }

  it('are as many as the table says', () => {
    const { launches, failed } = train(1e6);
    expect(failed).toBe(false);
    expect(launches).toBeGreaterThan(60);
    expect(train(launches).failed).toBe(true);
    expect(train(launches + 1).failed).toBe(false);
  }, 300_000);
});
