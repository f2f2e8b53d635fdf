import { describe, expect, it } from 'vitest';
import { type Merge, mergeAll } from '../tests/merge_all.js';
import { randomNumbers } from '../tests/tiny_run.js';
import { Merges } from './merges.js';

describe('Merges', () => {
  it('does the best merge first, of equal ones the leftmost', () => {
    const merges: Merge[] = [
      ['b', 'c'],
      ['a', 'b'],
      ['a', 'bc'],
      ['a', 'a'],
    ];
    expect(new Merges(merges).apply('abc')).toEqual(['abc']);
    expect(new Merges(merges).apply('aaab')).toEqual(['aa', 'ab']);
    expect(new Merges([['a', 'a']]).apply('aaaaa')).toEqual(['aa', 'aa', 'a']);
    expect(new Merges([]).apply('a🦙')).toEqual(['a', '🦙']);
    expect(new Merges(merges).apply('')).toEqual([]);
  });

  it('equals the definition on random merges and texts, pairs that come twice included', () => {
    const random = randomNumbers(5);
    const below = (n: number) => Math.floor(random() * n);
    for (let round = 0; round < 300; round++) {
      const tokens = ['a', 'b', 'c', '🦙'];
      const merges: Merge[] = Array.from({ length: 12 }, () => {
        const merge: Merge = [tokens[below(tokens.length)], tokens[below(tokens.length)]];
        tokens.push(merge.join(''));
        return merge;
      });
      const text = Array.from({ length: 30 }, () => tokens[below(5)]).join('');
      expect(new Merges(merges).apply(text), JSON.stringify({ merges, text })).toEqual(
        mergeAll(text, merges),
      );
    }
  });
});
