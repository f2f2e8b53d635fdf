// What a plan says of a card, made where there is none, is what the simulated card takes: to the byte.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SHAPES } from '../../benchmarks/shapes.js';
import type { PlanReport } from '../../recipes/plan/report.js';
import { RunDirectory, randomRows } from '../tiny_run.js';
import { buildSimulator, simulated } from './run.mjs';

const directory = new RunDirectory();
beforeAll(() => {
  buildSimulator();
  directory.writeRows('rows.jsonl', randomRows(6, 1));
}, 120_000);
afterAll(() => directory.remove());

function plan(options: string[], card: Record<string, string> | null): PlanReport {
  const { TSTRAIN_DEVICE, TSTRAIN_CUDA_PATH, ...rest } = process.env;
  const env = card === null ? rest : { ...rest, ...simulated(), ...card };
  const tstrain = join(import.meta.dirname, '../../dist/bin/tstrain.js');
  const args = [tstrain, 'plan', '--config', 'run.yaml', '--device', 'cuda', '--json', ...options];
  const { stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    env,
    cwd: directory.path,
  });
  if (!stdout.startsWith('{')) throw new Error(stderr);
  return JSON.parse(stdout);
}

/** Plans without a card, and measures on one. */
function compare(settings: Record<string, unknown>, card: Record<string, string> = {}): void {
  directory.writeConfig({ model_max_length: 16, ...settings });
  const { memory, cards } = plan([], null);
  expect(cards).toHaveLength(6);
  const { memory: onCard, measured, machine } = plan(['--measure'], card);
  expect(onCard).toEqual(memory);
  expect(measured).toMatchObject({ arena: memory.arena, arena_as_planned: true });
  expect(machine.memory_total).toBe(8 * 2 ** 30);
}

it.each([
  ['fp32', {}],
  ['bf16', { bf16: true, per_device_train_batch_size: 2 }],
  ['bf16 with gradient checkpointing', { bf16: true, gradient_checkpointing: true }],
])('a tiny model in %s', (_, settings) => compare(settings), 300_000);

describe.skipIf(!process.env.TSTRAIN_LONG_TESTS)('with TSTRAIN_LONG_TESTS=1', () => {
  it.each([
    ['fp32', {}],
    ['bf16', { bf16: true }],
  ])(
    'the 15M model in %s',
    (_, settings) =>
      compare(
        { ...settings, model_config: SHAPES['15m'], per_device_train_batch_size: 1 },
        { CUDASIM_CHECK: '0' },
      ),
    900_000,
  );
});
