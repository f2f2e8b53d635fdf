import { expect, it } from 'vitest';
import { nearest } from './nearest.js';

it('finds the name with the fewest edits, the first of several', () => {
  expect(nearest('learning_rte', ['logging_steps', 'learning_rate'])).toBe('learning_rate');
  expect(nearest('evaluation_strategy', ['save_strategy', 'eval_strategy', 'eval_steps'])).toBe(
    'eval_strategy',
  );
  expect(nearest('ab', ['abc', 'a', 'b'])).toBe('abc');
});

it('names none that is another word', () => {
  const keys = ['bf16', 'seed', 'data_path', 'save_steps'];
  for (const word of ['tf32', 'fsdp', 'report_to', 'optim', '', 'xyz'])
    expect(nearest(word, keys)).toBeUndefined();
});
