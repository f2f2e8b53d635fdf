import { describe, expect, it } from 'vitest';
import { normalizer, spacesAtEnd } from './normalizer.js';
import { tokenizerJson } from './schema.js';

const normalize = (config: object, text: string) =>
  normalizer(tokenizerJson.shape.normalizer.parse(config))(text);

// What `tokenizers` 0.23 gives.
describe('normalizer', () => {
  it.each<[object, string, string]>([
    [{ type: 'Prepend', prepend: '▁' }, 'a', '▁a'],
    [{ type: 'Prepend', prepend: '▁' }, '', ''],
    [{ type: 'Replace', pattern: { String: '$' }, content: '$&$1' }, 'a$b', 'a$&$1b'],
    [{ type: 'Replace', pattern: { Regex: '\\s{2,}' }, content: ' ' }, 'a \n b c', 'a b c'],
    [{ type: 'NFC' }, 'e\u0301', 'é'],
    [{ type: 'NFD' }, 'é', 'e\u0301'],
    [{ type: 'NFKC' }, 'ﬁ①', 'fi1'],
    [{ type: 'NFKD' }, 'ﬁé', 'fie\u0301'],
    [{ type: 'Lowercase' }, 'ΑΣ', 'ασ'],
    [{ type: 'Strip' }, '\u3000 a \ufeff\u0085', 'a \ufeff'],
    [{ type: 'Strip', strip_left: false, strip_right: true }, ' a ', ' a'],
    [
      {
        type: 'Sequence',
        normalizers: [{ type: 'Lowercase' }, { type: 'Sequence', normalizers: [{ type: 'NFD' }] }],
      },
      'É',
      'e\u0301',
    ],
  ])('%j of %j', (config, text, expected) => {
    expect(normalize(config, text)).toBe(expected);
  });
});

it('finds the white space at the end in the time that it is long', () => {
  expect(spacesAtEnd('a \n')).toBe(1);
  expect(spacesAtEnd('  ', 1)).toBe(1);
  // A regular expression takes 10^10 steps for this.
  expect(spacesAtEnd(`${' '.repeat(100_000)}a`)).toBe(100_001);
});
