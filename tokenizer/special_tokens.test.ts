import { describe, expect, it } from 'vitest';
import { sectionSplitter } from './special_tokens.js';

const token = (id: number, content: string, strip = {}) => ({
  id,
  content,
  special: true,
  normalized: false,
  single_word: false,
  lstrip: false,
  rstrip: false,
  ...strip,
});

describe('sectionSplitter', () => {
  it('splits raw text at the tokens and leaves out empty stretches', () => {
    const split = sectionSplitter([token(1, '<s>'), token(2, '</s>')]);
    expect(split('<s>a </s></s> b')).toEqual([
      { id: 1 },
      { text: 'a ' },
      { id: 2 },
      { id: 2 },
      { text: ' b' },
    ]);
    expect(split('')).toEqual([]);
    expect(split('< s>')).toEqual([{ text: '< s>' }]);
  });

  it('takes the longest of several tokens that begin at one place', () => {
    const split = sectionSplitter([token(1, '[A'), token(2, '[A]'), token(3, ']')]);
    expect(split('[A][A')).toEqual([{ id: 2 }, { id: 1 }]);
  });

  it('takes no character of a token for a pattern', () => {
    const split = sectionSplitter([token(1, '.*|(x)[$^]')]);
    expect(split('ab.*|(x)[$^]')).toEqual([{ text: 'ab' }, { id: 1 }]);
  });

  it('swallows white space where the token says so', () => {
    const split = sectionSplitter([token(1, '<l>', { lstrip: true }), token(2, '<r>', { rstrip: true })]);
    expect(split('a \n<l> b <r>\t c')).toEqual([
      { text: 'a' },
      { id: 1 },
      { text: ' b ' },
      { id: 2 },
      { text: 'c' },
    ]);
  });

  it('takes a token with single_word for one only where it touches no word', () => {
    const split = sectionSplitter([token(1, 'and', { single_word: true })]);
    expect(split('and sand and_ andé and')).toEqual([{ id: 1 }, { text: ' sand and_ andé ' }, { id: 1 }]);
  });

  it('gives white space between two tokens to the first that wants it', () => {
    const split = sectionSplitter([token(1, '<r>', { rstrip: true }), token(2, '<l>', { lstrip: true })]);
    expect(split('<r>  <l>')).toEqual([{ id: 1 }, { id: 2 }]);
  });

  it('looks for white space before a token in the time that it is long', () => {
    const split = sectionSplitter([token(1, '<l>', { lstrip: true })]);
    // Twice as much as a regular expression such as \\s*(<l>) tries in minutes.
    expect(split(`${' '.repeat(200_000)}a`)).toHaveLength(1);
  });

  it('gives the whole text where there are no tokens', () => {
    expect(sectionSplitter([])('<s>')).toEqual([{ text: '<s>' }]);
    expect(sectionSplitter([])('')).toEqual([]);
  });
});
