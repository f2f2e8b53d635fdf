import { describe, expect, it } from 'vitest';
import { preTokenizer } from './pre_tokenizer.js';
import { type PreTokenizerStep, tokenizerJson } from './schema.js';

const words = (steps: object[], text: string) =>
  preTokenizer(
    tokenizerJson.shape.pre_tokenizer.parse(
      steps.length === 1 ? steps[0] : { type: 'Sequence', pretokenizers: steps },
    ) as PreTokenizerStep[],
  ).words(text, true);

// What `tokenizers` 0.23 gives.
describe('Split', () => {
  const split = (behavior: string, invert = false) => ({
    type: 'Split',
    pattern: { String: '-' },
    behavior,
    invert,
  });

  it.each([
    ['Removed', ['ab', 'c']],
    ['Isolated', ['-', 'ab', '-', '-', 'c', '-']],
    ['Contiguous', ['-', 'ab', '--', 'c', '-']],
    ['MergedWithPrevious', ['-', 'ab-', '-', 'c-']],
    ['MergedWithNext', ['-ab', '-', '-c', '-']],
  ])('%s', (behavior, expected) => {
    expect(words([split(behavior)], '-ab--c-')).toEqual(expected);
  });

  it('keeps the matches alone when they are what is not removed', () => {
    expect(words([split('Removed', true)], '-ab--c-')).toEqual(['-', '-', '-', '-']);
  });

  it("reads Llama 3's pattern, the third form of its letters included", () => {
    const pattern = {
      Regex:
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    };
    expect(words([{ type: 'Split', pattern, behavior: 'Isolated' }], "I'LL a'\u017fa  12345\n\n b")).toEqual([
      'I',
      "'LL",
      ' a',
      "'\u017f",
      'a',
      ' ',
      ' ',
      '123',
      '45',
      '\n\n',
      ' b',
    ]);
  });
});

describe('other steps', () => {
  it.each<[object[], string, string[]]>([
    [[{ type: 'Digits', individual_digits: true }], 'a12½b', ['a', '1', '2', '½', 'b']],
    [[{ type: 'Digits' }], 'a12½b', ['a', '12½', 'b']],
    [[{ type: 'Punctuation' }], 'a!?«$b', ['a', '!', '?', '«', '$', 'b']],
    [[{ type: 'Punctuation', behavior: 'Contiguous' }], 'a!?«$b', ['a', '!?«$', 'b']],
    [[{ type: 'WhitespaceSplit' }], ' a  b\u3000c ', ['a', 'b', 'c']],
    [[{ type: 'Whitespace' }], ' a_é!? ½', ['a_é', '!?', '½']],
    [[{ type: 'ByteLevel' }], "it's 12 é", [' it', "'s", ' 12', ' é']],
    [[{ type: 'ByteLevel', add_prefix_space: false, use_regex: false }], 'a b', ['a b']],
    // Spelt before they are split: ³ is how the byte B3 is spelt, and a digit.
    [[{ type: 'ByteLevel', add_prefix_space: false }, { type: 'Digits' }], 'ó', ['Ã', '³']],
  ])('%j', (steps, text, expected) => {
    expect(words(steps, text)).toEqual(expected);
  });
});
