import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { dropMetricsAfter } from './metrics.js';

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tstrain-metrics-'));
  file = join(directory, 'metrics.jsonl');
});
afterEach(() => rmSync(directory, { recursive: true }));

const line = (step: number, more = '') => `{"step":${step},"loss":0.5${more}}\n`;

/** What is left of such a file when a run goes on after `step`. */
async function left(text: string, step: number): Promise<string> {
  writeFileSync(file, text);
  await dropMetricsAfter(file, step);
  return readFileSync(file, 'utf8');
}

describe('of metrics.jsonl a resumed run keeps', () => {
  const [one, two, three] = [1, 2, 3].map((step) => line(step));
  it.each([
    ['all lines up to its step', one + two + three, 2, one + two],
    ['all, when no step was done since', one + two, 2, one + two],
    ['nothing of later steps', two + three, 1, ''],
    ['no line that a kill cut short', one + two.slice(0, 9), 2, one],
    ['nothing of an empty file', '', 2, ''],
    [
      'an evaluation of its step',
      one + two + line(2, ',"eval_loss":1') + three,
      2,
      one + two + line(2, ',"eval_loss":1'),
    ],
    ['nothing of bytes without a line', 'x'.repeat(200_000), 2, ''],
    ['lines before a long run of bytes that are none', one + 'x'.repeat(200_000), 2, one],
  ])('%s', async (_, text, step, expected) => {
    expect(await left(text, step)).toBe(expected);
  });

  it('the same however the lines lie to the pieces that are read', async () => {
    const lines = Array.from({ length: 9000 }, (_, i) => line(i + 1, `,"more":"${'.'.repeat(i % 37)}"`));
    for (const step of [1, 2, 3000, 4500, 8998, 8999, 9000])
      expect(await left(lines.join(''), step)).toBe(lines.slice(0, step).join(''));
  });
});

it('where there is no file, none is made', async () => {
  await dropMetricsAfter(file, 1);
  expect(() => readFileSync(file)).toThrow('ENOENT');
});
