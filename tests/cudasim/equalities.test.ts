import { cpSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cli } from '../cli.js';
import { type Row, RunDirectory, randomRows, TINY } from '../tiny_run.js';
import { installNvrtc } from './nvrtc.mjs';
import { buildSimulator, simulated } from './run.mjs';

// Runs of ten steps on the simulated card that must leave the same bytes, because they make the same sums in the same order.

const STEPS = 10;
const MICRO_BATCHES = 2;
const directory = new RunDirectory();
let cli: Cli;

beforeAll(async () => {
  installNvrtc('12.8');
  buildSimulator();
  cli = await Cli.compile();
  directory.writeRows('rows.jsonl', randomRows(40, 1));
  directory.writeRows('long_rows.jsonl', randomRows(40, 1, LONG));
  directory.writeRows('equal_rows.jsonl', rowsOfOneShape(40));
}, 300_000);
afterAll(() => {
  cli.remove();
  directory.remove();
});

interface Left {
  model: Buffer;
  metrics: string;
}

/** What a run leaves in the directory `output`. */
async function run(
  output: string,
  settings: Record<string, unknown>,
  variables: NodeJS.ProcessEnv = {},
  ...args: string[]
): Promise<Left> {
  directory.writeConfig({
    device: 'cuda',
    max_steps: STEPS,
    logging_steps: 1,
    gradient_accumulation_steps: MICRO_BATCHES,
    output_dir: output,
    ...settings,
  });
  const { status, stdout, stderr } = await cli.start(directory.path, ['--config', 'run.yaml', ...args], {
    ...simulated(),
    XDG_CACHE_HOME: directory.at('cache'),
    CUDASIM_LAUNCHES: directory.at(`${output}.launches`),
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

/** Whose micro-batches have the same sizes, with other ids. */
function rowsOfOneShape(count: number): Row[] {
  const ids = randomRows(1, 2, 1000)[0].ids.concat(randomRows(1, 3, 1000)[0].ids);
  return Array.from({ length: count }, (_, i) => ({ ids: ids.slice(i, i + 100), prompt_len: 5 }));
}

/** How often the run that left `output` launched each kernel of attention, and graphs. */
function launches(output: string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const launched of directory.text(`${output}.launches`).trimEnd().split('\n'))
    if (/^(flash|attention)_|^CUDA graph/.test(launched)) counts[launched] = (counts[launched] ?? 0) + 1;
  return counts;
}

// Up to two blocks of queries and five tiles of keys.
const LONG = 144;
const FLASH = {
  bf16: true,
  model_config: {
    ...TINY,
    hidden_size: 128,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    max_position_embeddings: LONG,
  },
  data_path: 'long_rows.jsonl',
  model_max_length: LONG,
  per_device_train_batch_size: 2,
};

/** The general kernels of attention, forward and backward: for float32, and for heads of other sizes. */
const general = (type: string): [string, string[]] => [
  `attention_forward<${type}>`,
  ['delta', 'backward_keys', 'backward_queries'].map((part) => `attention_${part}<${type}>`),
];
const flash = ['attention_delta<bf16>', 'flash_backward_keys<64>', 'flash_backward_queries<64>'];

const runs: [name: string, settings: Record<string, unknown>, forward: string, backward: string[]][] = [
  ['bf16, attention on tensor cores', FLASH, 'flash_forward<64>', flash],
  ['bf16, heads of 6', { bf16: true }, ...general('bf16')],
];
if (process.env.TSTRAIN_LONG_TESTS) runs.push(['fp32', {}, ...general('float')]);

describe.each(runs)('%s', (name, settings, forward, backward) => {
  const output = (what: string) => `${name.replaceAll(/\W+/g, '_')}_${what}`;
  let whole: Left;
  beforeAll(async () => {
    const save = { save_strategy: 'steps', save_steps: STEPS / 2, save_total_limit: 2 };
    whole = await run(output('whole'), { ...settings, ...save });
  }, 300_000);

  it('gradient_checkpointing on = off, and computes attention twice forward', async () => {
    expect(await run(output('on'), { ...settings, gradient_checkpointing: true })).toEqual(whole);
    const once = STEPS * MICRO_BATCHES * TINY.num_hidden_layers;
    const expected = (times: number) => ({
      [forward]: times * once,
      ...Object.fromEntries(backward.map((kernel) => [kernel, once])),
    });
    expect(launches(output('whole'))).toEqual(expected(1));
    expect(launches(output('on'))).toEqual(expected(2));
  }, 300_000);

  it('optimizer_offload: cpu = none', async () => {
    expect(await run(output('offloaded'), { ...settings, optimizer_offload: 'cpu' })).toEqual(whole);
  }, 300_000);

  it('another order of threads = this one', async () => {
    expect(await run(output('order'), settings, { CUDASIM_SEED: '2' })).toEqual(whole);
  }, 300_000);

  it('CUDA graphs on = off', async () => {
    const equal = { ...settings, data_path: 'equal_rows.jsonl', model_max_length: LONG };
    const kernels = ({ 'CUDA graph': graphs, ...others }: Record<string, number>) => ({ graphs, others });
    const on = await run(output('graphs'), equal);
    expect(await run(output('no_graphs'), equal, { TSTRAIN_CUDA_GRAPHS: '0' })).toEqual(on);
    // Micro-batches write over gradients, or add to them: the first of each kind is called.
    const [with_, without] = ['graphs', 'no_graphs'].map((what) => kernels(launches(output(what))));
    expect(with_).toEqual({ graphs: STEPS * MICRO_BATCHES - 2, others: without.others });
    expect(without.graphs).toBeUndefined();
  }, 300_000);

  it('saved after half the steps, and resumed = not', async () => {
    const resumed = output('resumed');
    for (const part of [`checkpoint-${STEPS / 2}`, 'metrics.jsonl'])
      cpSync(directory.at(output('whole'), part), directory.at(resumed, part), { recursive: true });
    expect(await run(resumed, settings, {}, '--resume')).toEqual(whole);
  }, 300_000);
});
