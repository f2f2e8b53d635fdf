import { expect, it } from 'vitest';
import { addon, defaultDevice, metaOf } from '../engine/device/addon.js';
import { parseCells } from './cells.js';
import { GemmTimer, gemmFlops, gemmsOf } from './gemms.js';
import { configOf, SHAPES } from './shapes.js';
import { deviceMemory, planMemory, Training } from './training.js';
import { makeWorkload, meanSizes } from './workload.js';

const [cell] = parseCells('260k/fp32/fixed');

it('trains, counts its tokens and FLOPs, and takes the memory that the plan says', async () => {
  const workload = await makeWorkload(cell, 1, 2);
  workload.steps = workload.steps.slice(0, 2).map((documents) => documents.slice(0, 1));
  const plan = await planMemory(workload, 'fp32');
  const training = new Training(workload, 'fp32', defaultDevice());
  expect(training.parameters).toBe(260_032);
  const first = await training.steps(1);
  const round = await training.round();
  training.dispose();
  // An untrained model of 512 words knows nothing: ln 512 = 6.24, and a little for its random logits.
  expect(first.loss).toBeGreaterThan(6.2);
  expect(first.loss).toBeLessThan(6.4);
  expect(round.tokens).toBe(2 * 512);
  expect(round.tok_s).toBeGreaterThan(0);
  expect(round.peak_rss_mib).toBeGreaterThan(50);
  // The third step sees the first one's document again, and has learned a little from it.
  expect(round.loss).toBeLessThan(first.loss);
  expect(round.measured.arena).toBe(plan.arena);
  expect(round.measured.heap).toBeGreaterThan(SHAPES['260k'].vocab_size * 64 * 4);
});

it.each(['260k', '15m', '110m'] as const)('lists every matrix product of a step of %s', async (shape) => {
  const workload = await makeWorkload({ ...cell, shape }, 1, 1);
  workload.steps = workload.steps.slice(0, 1);
  const config = configOf(shape);
  await planMemory(workload, 'fp32');
  const { tokens, labels } = meanSizes(workload.steps);
  const products = gemmsOf(config, tokens, labels).reduce((sum, g) => sum + g.times * gemmFlops(g), 0);
  // What the contracts count besides is attention: 4 products of queries and keys forward, 10 backward, per head.
  const pairs = (4 * 512 * 513) / 2;
  const attention = 14 * pairs * config.numAttentionHeads * config.headDim * config.numHiddenLayers;
  expect(products + attention).toBe(addon.stats(metaOf(defaultDevice())).flops);
});

it('times a product', () => {
  const [gemm] = gemmsOf(configOf('260k'), 16, 16);
  const timer = new GemmTimer(addon, [gemm], 'bf16');
  const heap = deviceMemory(defaultDevice()).heap;
  expect(timer.time(gemm, 0.001)).toBeGreaterThan(0);
  timer.dispose();
  expect(addon.stats(defaultDevice()).heapBytes).toBeLessThan(heap);
});
