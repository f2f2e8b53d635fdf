import { afterAll, expect, it } from 'vitest';
import { RunDirectory, randomRows, TINY } from '../../tests/tiny_run.js';
import { checkSettings } from '../check_settings.js';
import { prepareRun } from '../prepare.js';
import { outOfMemory } from './out_of_memory.js';

const directory = new RunDirectory();
afterAll(() => directory.remove());
directory.writeRows('rows.jsonl', randomRows(8, 1));
const prepared = prepareRun(
  checkSettings({
    model_config: TINY,
    data_path: directory.at('rows.jsonl'),
    output_dir: directory.at('out'),
    per_device_train_batch_size: 4,
  }),
  () => {},
);
const error = new Error('gemm: out of memory: 4 MiB were asked for, and 1 MiB are free');

it('says what was asked for, what the run takes by its plan, and what takes less', async () => {
  const { faults, cause } = await outOfMemory(error, await prepared, 1000);
  expect(cause).toBe(error);
  expect(faults[0]).toBe(error.message);
  expect(faults[1]).toMatch(
    /^this run takes [\d.]+ MiB by its plan: (\w[\w ]+ [\d.]+ MiB, ){3,}\w[\w ]+ [\d.]+ MiB; 0\.0 MiB are free without it$/,
  );
  const parts = [...faults[1].matchAll(/[\d.]+(?= MiB[,;])/g)].map(([mib]) => Number(mib));
  expect(parts).toEqual([...parts].sort((a, b) => b - a));
  expect(faults[2]).toMatch(
    /^less is taken, in all, with per_device_train_batch_size: 1, gradient_accumulation_steps: 4 \([\d.]+ MiB\); or gradient_checkpointing: true \(/,
  );
});

it('says so when the plan would fit', async () => {
  const { faults } = await outOfMemory(error, await prepared, 2 ** 30);
  expect(faults[1]).toContain(
    '; that fits into the 1.0 GiB that are free now, so something else had taken memory',
  );
});

it('says when no setting helps', async () => {
  const run = await prepared;
  const config = {
    ...run.config,
    per_device_train_batch_size: 1,
    gradient_checkpointing: true,
    optimizer_state_dtype: 'bfloat16' as const,
    model_max_length: 64,
  };
  const { faults } = await outOfMemory(error, { ...run, config }, 1000);
  expect(faults[2]).toBe('no setting takes less; a smaller model does');
});
