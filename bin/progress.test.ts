import { describe, expect, it } from 'vitest';
import { duration, makeProgress } from './progress.js';

function screen(isTTY: boolean) {
  const written: string[] = [];
  return { isTTY, columns: 60, written, write: (text: string) => written.push(text) };
}

const line = {
  step: 2,
  epoch: 0.5,
  loss: 1.23456,
  grad_norm: 0.5,
  learning_rate: 2e-5,
  tokens: 100,
  label_tokens: 50,
  tokens_per_second: 12345.6,
  step_time_ms: 10,
};

describe('progress', () => {
  it('writes plain lines into a pipe, and no bar', () => {
    const pipe = screen(false);
    let clock = 0;
    const progress = makeProgress(pipe, 4, 0, () => clock);
    clock = 2000;
    progress.step(2, 1.2);
    progress.metrics(line);
    progress.end();
    expect(pipe.written).toEqual([
      'step 2/4  epoch 0.50  loss 1.2346  grad_norm 0.500  lr 2.00e-5  12,346 tokens/s  2 s left\n',
    ]);
  });

  it('keeps the bar below the lines on a terminal', () => {
    const terminal = screen(true);
    let clock = 0;
    const progress = makeProgress(terminal, 4, 2, () => clock);
    clock = 3000;
    progress.step(3, 1);
    const bar = '\r\x1b[K████████░░ 3/4  loss 1.0000  3 s left';
    progress.say('hello');
    expect(terminal.written).toEqual([bar, '\r\x1b[K', 'hello\n', bar]);
    progress.end();
    expect(terminal.written.at(-1)).toBe('\r\x1b[K');
  });
});

it('shows durations in the largest unit that matters', () => {
  expect([900, 59_400, 309_000, 3_909_000].map(duration)).toEqual(['1 s', '59 s', '5:09', '1:05:09']);
});
