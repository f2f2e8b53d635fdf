import { expect, it } from 'vitest';
import { TINY } from '../../tests/tiny_run.js';
import { checkPlanSettings } from '../check_settings.js';
import { type Changes, savings, settingsText } from './savings.js';

const config = checkPlanSettings({
  model_config: TINY,
  per_device_train_batch_size: 6,
  gradient_accumulation_steps: 4,
  model_max_length: 512,
});

/** A run of 100 bytes that no setting changes, and one byte for 32 tokens, half of it with checkpointing. */
async function totalOf({
  per_device_train_batch_size: rows = 6,
  gradient_checkpointing = false,
  model_max_length: length = 512,
}: Changes): Promise<number> {
  return 100 + (rows * length) / (gradient_checkpointing ? 64 : 32);
}

it('takes the mildest change of each kind that is enough', async () => {
  expect(await totalOf({})).toBe(196);
  expect(await savings(config, 150, totalOf)).toEqual([
    { settings: { per_device_train_batch_size: 3, gradient_accumulation_steps: 8 }, total: 148 },
    { settings: { gradient_checkpointing: true }, total: 148 },
    { settings: { model_max_length: 256 }, total: 148 },
  ]);
});

it('keeps the number of rows a step, or a few more', async () => {
  const [{ settings }] = await savings(config, 116, totalOf);
  expect(settings).toEqual({ per_device_train_batch_size: 1, gradient_accumulation_steps: 24 });
  const odd = { ...config, per_device_train_batch_size: 5, gradient_accumulation_steps: 1 };
  expect((await savings(odd, 140, totalOf))[0].settings).toEqual({
    per_device_train_batch_size: 2,
    gradient_accumulation_steps: 3,
  });
});

it('puts kinds together where none is enough, and tells the least there is where all are not', async () => {
  const alone = await savings(config, 110, totalOf);
  expect(alone.map(({ total }) => total)).toEqual([116, 148, 124, 108]);
  expect(alone[3].settings).toEqual({
    per_device_train_batch_size: 1,
    gradient_accumulation_steps: 24,
    gradient_checkpointing: true,
  });
  const least = await savings(config, 50, totalOf);
  expect(least[3]).toEqual({
    settings: {
      per_device_train_batch_size: 1,
      gradient_accumulation_steps: 24,
      gradient_checkpointing: true,
      model_max_length: 128,
    },
    total: 102,
  });
});

it('names no change that saves nothing, or is made already', async () => {
  const least = {
    ...config,
    per_device_train_batch_size: 1,
    gradient_checkpointing: true,
    model_max_length: 128,
  };
  expect(await savings(least, 1, totalOf)).toEqual([]);
  expect(await savings(config, 1, async () => 100)).toEqual([]);
  expect(settingsText({ per_device_train_batch_size: 1, gradient_checkpointing: true })).toBe(
    'per_device_train_batch_size: 1, gradient_checkpointing: true',
  );
});
