import { cpSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cli } from '../cli.js';
import { RunDirectory, randomRows } from '../tiny_run.js';
import { installNvrtc } from './nvrtc.mjs';
import { buildSimulator, simulated } from './run.mjs';

// Runs of ten steps on the simulated card that must leave the same bytes, because they make the same sums in the same order.

const STEPS = 10;
const directory = new RunDirectory();
let cli: Cli;

beforeAll(async () => {
  installNvrtc('12.8');
  buildSimulator();
  cli = await Cli.compile();
  directory.writeRows('rows.jsonl', randomRows(40, 1));
}, 300_000);
afterAll(() => {
  cli.remove();
  directory.remove();
});

/** What a run leaves in the directory `output`. */
async function run(
  output: string,
  settings: Record<string, unknown>,
  variables: NodeJS.ProcessEnv = {},
  ...args: string[]
): Promise<{ model: Buffer; metrics: string }> {
  directory.writeConfig({
    device: 'cuda',
    max_steps: STEPS,
    logging_steps: 1,
    gradient_accumulation_steps: 2,
    output_dir: output,
    ...settings,
  });
  const { status, stdout, stderr } = await cli.start(directory.path, ['--config', 'run.yaml', ...args], {
    ...simulated(),
    XDG_CACHE_HOME: directory.at('cache'),
    ...variables,
  }).ended;
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout.includes(`resuming after step ${STEPS / 2} of ${STEPS}`)).toBe(args.includes('--resume'));
  expect(directory.metrics(output)).toHaveLength(STEPS);
  return {
    model: directory.bytes(output, 'model.safetensors'),
    metrics: directory.untimedMetrics(output),
  };
}

/** float32 with TSTRAIN_LONG_TESTS=1. */
const precisions = process.env.TSTRAIN_LONG_TESTS ? ['bf16', 'fp32'] : ['bf16'];

describe.each(precisions)('%s', (precision) => {
  const settings = { bf16: precision === 'bf16' };
  let whole: { model: Buffer; metrics: string };
  beforeAll(async () => {
    const save = { save_strategy: 'steps', save_steps: STEPS / 2, save_total_limit: 2 };
    whole = await run(precision, { ...settings, ...save });
  }, 300_000);

  it('gradient_checkpointing on = off', async () => {
    expect(await run(`${precision}_on`, { ...settings, gradient_checkpointing: true })).toEqual(whole);
  }, 300_000);

  it('optimizer_offload: cpu = none', async () => {
    expect(await run(`${precision}_offloaded`, { ...settings, optimizer_offload: 'cpu' })).toEqual(whole);
  }, 300_000);

  it('another order of threads = this one', async () => {
    expect(await run(`${precision}_order`, settings, { CUDASIM_SEED: '2' })).toEqual(whole);
  }, 300_000);

  it('saved after half the steps, and resumed = not', async () => {
    const output = `${precision}_resumed`;
    for (const part of [`checkpoint-${STEPS / 2}`, 'metrics.jsonl'])
      cpSync(directory.at(precision, part), directory.at(output, part), { recursive: true });
    expect(await run(output, settings, {}, '--resume')).toEqual(whole);
  }, 300_000);
});
