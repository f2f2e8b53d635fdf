import { expect, it } from 'vitest';
import { Captured } from '../tests/run_command.js';
import { shownOn } from './terminal.js';

it('what a model says cannot command a terminal, and is exact elsewhere', () => {
  const text = 'a\u001b]0;title\u0007\u009bb\n';
  expect(shownOn(new Captured(), text)).toBe(text);
  expect(shownOn(Object.assign(new Captured(), { isTTY: true }), text)).toBe(
    'a\\u001b]0;title\\u0007\\u009bb\n',
  );
});
