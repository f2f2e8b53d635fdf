import { describe, expect, it } from 'vitest';
import { type Merge, mergeAll } from '../tests/merge_all.js';
import { PieceCutter } from './pieces.js';

function cut(text: string, merges: readonly Merge[]): string[] {
  return new PieceCutter(merges).pieces(text);
}

describe('PieceCutter', () => {
  it('cuts only where no merge can join', () => {
    const merges: Merge[] = [
      ['▁', '▁'],
      ['▁', 'a'],
      ['a', 'b'],
      ['▁a', 'b'],
    ];
    expect(cut('▁▁ab▁abba.a', merges)).toEqual(['▁▁ab', '▁ab', 'b', 'a', '.', 'a']);
  });

  it('cuts everything apart without merges, but no surrogate pair', () => {
    expect(cut('ab🦙🦙\ud83d', [])).toEqual(['a', 'b', '🦙', '🦙', '\ud83d']);
  });

  it('does not cut before ▁ where a merge has it after another character', () => {
    expect(cut('a▁b', [['a', '▁']])).toEqual(['a▁', 'b']);
  });

  it('leaves the result of merging as it is, for random merges and texts', () => {
    // A linear congruential generator: the same cases in every run.
    let state = 1;
    const random = (n: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * n);
    };
    let cuts = 0;
    for (let round = 0; round < 200; round++) {
      const pieces = ['▁', 'a', 'b', 'c', '好', '🦙'];
      const merges: Merge[] = [];
      for (let i = 0; i < 8; i++) {
        const merge: Merge = [pieces[random(pieces.length)], pieces[random(pieces.length)]];
        merges.push(merge);
        pieces.push(merge.join(''));
      }
      const text = Array.from({ length: 40 }, () => pieces[random(6)]).join('');
      const parts = cut(text, merges);
      cuts += parts.length - 1;
      expect(parts.join('')).toBe(text);
      expect(parts.flatMap((part) => mergeAll(part, merges))).toEqual(mergeAll(text, merges));
    }
    expect(cuts).toBeGreaterThan(1000);
  });
});
