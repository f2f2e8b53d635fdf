import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Cli } from './cli.js';
import { RunDirectory, randomNumbers, randomRows } from './tiny_run.js';

const KILLS = 20;

let cli: Cli;
let directory: RunDirectory;
beforeAll(async () => {
  cli = await Cli.compile();
});
afterAll(() => cli.remove());
afterEach(() => directory.remove());

describe('a run killed at random moments and resumed', () => {
  // Lines of metrics and checkpoints at different steps: a line's mean may begin before a checkpoint and end behind it.
  const common = {
    logging_steps: 5,
    save_strategy: 'steps',
    save_steps: 2,
    save_total_limit: 3,
    eval_strategy: 'steps',
    eval_steps: 7,
    eval_data_path: 'held_out.jsonl',
    per_device_train_batch_size: 3,
  };
  it.each([
    ['fp32, on two threads', { max_steps: 200, threads: 2, weight_decay: 0.1 }],
    [
      'bf16, gradients and moments too, accumulated, packed, recomputed',
      {
        max_steps: 200,
        bf16: true,
        gradient_dtype: 'bfloat16',
        optimizer_state_dtype: 'bfloat16',
        gradient_accumulation_steps: 3,
        packing: true,
        per_device_train_batch_size: 1,
        gradient_checkpointing: true,
      },
    ],
  ])(
    'equals the uninterrupted run byte for byte: %s',
    async (_, settings) => {
      directory = new RunDirectory();
      directory.writeRows('rows.jsonl', randomRows(40, 1));
      directory.writeRows('held_out.jsonl', randomRows(5, 2));
      directory.writeConfig({ ...common, ...settings, output_dir: 'whole' }, 'whole.yaml');
      directory.writeConfig({ ...common, ...settings });

      const start = performance.now();
      const whole = cli.start(directory.path, ['--config', 'whole.yaml']);
      await whole.printed(/resuming|steps of/);
      const untilTraining = performance.now() - start;
      expect(await whole.ended).toMatchObject({ status: 0, stderr: '' });
      const untilSaved =
        (performance.now() - start - untilTraining) / (settings.max_steps / common.save_steps);

      const random = randomNumbers(7);
      let fresh = 0;
      let resumed = 0;
      const run = () => {
        // Nothing to resume from yet: the same command line once more, without --resume.
        const none = !directory.list('out').some((name) => name.startsWith('checkpoint-'));
        if (none) fresh++;
        else resumed++;
        return cli.start(directory.path, ['--config', 'run.yaml', ...(none ? [] : ['--resume'])]);
      };
      for (let kill = 0; kill < KILLS; kill++) {
        const child = run();
        if (random() < 0.25) {
          // While it starts.
          await wait(random() * untilTraining);
        } else {
          // By saves, not by the clock: a card's first steps compile kernels.
          const saves = Math.floor(random() * 5);
          await child.printed(/resuming|steps of/);
          if (saves > 0) await child.printed(/saved /, saves);
          await wait(random() * untilSaved);
        }
        child.signal('SIGKILL');
        expect(await child.ended).toMatchObject({ status: 'SIGKILL', stderr: '' });
      }
      // And once while it saves the end.
      const last = run();
      await last.printed(new RegExp(`saved .*-${settings.max_steps}\n`));
      last.signal('SIGKILL');
      await last.ended;

      expect(await run().ended).toMatchObject({ status: 0, stderr: '' });
      expect(fresh).toBeGreaterThan(0);
      expect(resumed).toBeGreaterThan(KILLS / 2);
      expect(
        directory.bytes('out/model.safetensors').equals(directory.bytes('whole/model.safetensors')),
      ).toBe(true);
      expect(directory.untimedMetrics('out')).toBe(directory.untimedMetrics('whole'));
      expect(directory.metrics('out')).toHaveLength(
        settings.max_steps / common.logging_steps + Math.floor(settings.max_steps / common.eval_steps),
      );
      expect(directory.list('out')).toEqual(directory.list('whole'));
      for (const name of directory.list('whole').filter((name) => name.startsWith('checkpoint-')))
        for (const file of ['model.safetensors', 'optimizer.safetensors'])
          expect(directory.bytes('out', name, file).equals(directory.bytes('whole', name, file))).toBe(true);
    },
    240_000,
  );
});
