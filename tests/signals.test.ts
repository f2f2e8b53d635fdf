import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { Cli } from './cli.js';
import { RunDirectory, randomRows } from './tiny_run.js';

let cli: Cli;
let directory: RunDirectory;
beforeAll(async () => {
  cli = await Cli.compile();
  directory = new RunDirectory();
});
afterAll(() => {
  cli.remove();
  directory.remove();
});
afterEach(() => {
  vi.unstubAllEnvs();
});

// Ctrl-C, a resized terminal, a profiler: a handled signal runs its handler on the stack of whatever was interrupted.
it.each(['fp32', 'bf16'])(
  'signals during training change nothing: %s',
  async (precision) => {
    directory.write('handle.cjs', "process.on('SIGUSR2', () => {});\n");
    directory.writeRows('rows.jsonl', randomRows(400, 9, 30));
    const run = (output_dir: string) => {
      directory.writeConfig({
        // Matrices as large as oneDNN's blocked kernels take.
        model_config: {
          vocab_size: 2000,
          hidden_size: 128,
          intermediate_size: 256,
          num_hidden_layers: 2,
          num_attention_heads: 2,
        },
        output_dir,
        num_train_epochs: 6,
        per_device_train_batch_size: 8,
        logging_steps: 10,
        learning_rate: 1e-3,
        bf16: precision === 'bf16',
        threads: 2,
      });
      return cli.start(directory.path, ['--config', 'run.yaml']);
    };
    const quiet = run(`quiet-${precision}`);
    expect(await quiet.ended).toMatchObject({ status: 0, stderr: '' });

    vi.stubEnv('NODE_OPTIONS', `--require ${directory.at('handle.cjs')}`);
    const disturbed = run(`disturbed-${precision}`);
    await disturbed.printed(/step 10\//);
    let lastSteps = false;
    // Node's end takes the handler away.
    disturbed.printed(/step 290\//).then(() => {
      lastSteps = true;
    });
    let signals = 0;
    for (; !lastSteps; signals++) {
      disturbed.signal('SIGUSR2');
      await wait(2);
    }
    expect(await disturbed.ended).toMatchObject({ status: 0, stderr: '' });
    expect(signals).toBeGreaterThan(50);

    const weights = (name: string) => directory.bytes(`${name}-${precision}`, 'model.safetensors');
    expect(weights('disturbed').equals(weights('quiet'))).toBe(true);
    // Two runs of 300 steps, on both cores, beside another file of tests that may want both too.
  },
  180_000,
);

it('SIGUSR1, by which a scheduler warns of the end of a job, opens no debugger', async () => {
  directory.writeRows('rows.jsonl', randomRows(10, 1));
  directory.writeConfig({ output_dir: 'warned', max_steps: 200 });
  const run = cli.start(directory.path, ['--config', 'run.yaml']);
  await run.printed(/step 10\//);
  run.signal('SIGUSR1');
  expect(await run.ended).toMatchObject({ status: 0, stderr: '' });
});

describe('Ctrl-C', () => {
  // Longer than they take on any machine; that is not waited for.
  const MANY = '2000000';
  beforeAll(async () => {
    directory.writeRows('rows.jsonl', randomRows(10, 1));
    directory.writeRows('many.jsonl', randomRows(100_000, 2));
    directory.writeConfig({ output_dir: 'model', max_steps: 1 });
    expect(await cli.run(directory.path, '--config', 'run.yaml')).toMatchObject({ status: 0 });
  });

  it.each<[string, string[], RegExp]>([
    ['score', ['--model', 'model', '--data', 'many.jsonl'], /row +label/],
    ['generate', ['--model', 'model', '--ids', '1', '--max-new-tokens', MANY], /\d+ \d+ /],
    ['plan', ['--config', 'run.yaml', '--set', 'data_path=many.jsonl', '--measure'], /rows?,/],
    ['--config', ['run.yaml', '--set', 'output_dir=other', '--set', 'data_path=many.jsonl'], /rows?,/],
  ])('ends tstrain %s within 5 s', async (command, args, started) => {
    const run = cli.start(directory.path, [command, ...args]);
    expect(await run.printed(started)).toBe(true);
    const start = performance.now();
    run.signal('SIGINT');
    const { status } = await run.ended;
    // A shell shows 130 for both.
    expect([130, 'SIGINT']).toContain(status);
    expect(performance.now() - start).toBeLessThan(5000);
  });

  it('is heard in the middle of a micro-batch, and twice ends it there', async () => {
    const [rows, tokens] = [32, 256];
    directory.writeRows('long.jsonl', Array(rows).fill({ ids: Array(tokens).fill(1), prompt_len: 1 }));
    directory.writeConfig({
      // 1.5e12 FLOPs a step: 15 s at 100 GFLOP/s, which two cores with AVX2 about reach.
      model_config: {
        vocab_size: 100,
        hidden_size: 640,
        intermediate_size: 1720,
        num_hidden_layers: 6,
        num_attention_heads: 10,
        max_position_embeddings: tokens,
      },
      data_path: 'long.jsonl',
      output_dir: 'long',
      model_max_length: tokens,
      per_device_train_batch_size: rows,
      max_steps: 2,
      threads: 2,
    });
    const run = cli.start(directory.path, ['--config', 'run.yaml']);
    await run.printed(/2 steps of/);
    await wait(1000);
    const start = performance.now();
    run.signal('SIGINT');
    expect(await run.printed(/finishing this step, then saving; once more stops at once/)).toBe(true);
    const heard = performance.now();
    // Under npx the command takes what follows at once for the same Ctrl-C.
    await wait(200);
    run.signal('SIGINT');
    const { status, stdout } = await run.ended;
    expect(status).toBe(130);
    expect(stdout).toMatch(/stopping at once\nstopped in the first step, without saving\n$/);
    expect(heard - start).toBeLessThan(5000);
    expect(performance.now() - heard).toBeLessThan(5000);
  });
});
