import { expect, it } from 'vitest';
import { remembering } from './model.js';

it('remembers short texts, forgets them all when there are too many, and says the same again', () => {
  let computed = 0;
  const lengths = remembering((text) => {
    computed++;
    return [text.length];
  });
  expect([lengths('abc'), lengths('abc')]).toEqual([[3], [3]]);
  expect(computed).toBe(1);
  for (let i = 0; i < 131_072; i++) lengths(`${i}`);
  expect(lengths('abc')).toEqual([3]);
  expect(computed).toBe(131_074);
  const long = 'x'.repeat(65);
  expect([lengths(long), lengths(long)]).toEqual([[65], [65]]);
  expect(computed).toBe(131_076);
});
