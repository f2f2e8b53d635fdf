import { describe, expect, it } from 'vitest';
import { randomNumbers } from '../tests/tiny_run.js';
import { Merges } from './merges.js';

type Merge = readonly [string, string];

/** By definition: the best merge there is, leftmost first, until there is none. */
function mergeAll(text: string, merges: readonly Merge[]): string[] {
  const tokens = Array.from(text);
  for (;;) {
    let best = -1;
    let at = -1;
    for (let i = 0; i + 1 < tokens.length; i++) {
      const rank = merges.findLastIndex(([left, right]) => left === tokens[i] && right === tokens[i + 1]);
      if (rank >= 0 && (best < 0 || rank < best)) [best, at] = [rank, i];
    }
    if (at < 0) return tokens;
    tokens.splice(at, 2, tokens[at] + tokens[at + 1]);
  }
}

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
