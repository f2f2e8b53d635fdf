import { describe, expect, it } from 'vitest';
import { tinyTokenizer, writeTokenizer } from '../tests/tiny_tokenizer.js';
import { loadTokenizer } from './index.js';

const tokenizer = await loadTokenizer(writeTokenizer(tinyTokenizer()));
const byte = (value: number) => value + 3;

function pushAll(ids: number[], options = {}): string[] {
  const stream = tokenizer.stream(options);
  return [...ids.map((id) => stream.push(id)), stream.end()];
}

describe('TokenStream', () => {
  it.each([
    'lower low',
    '  two spaces first',
    ' \n new\nlines ',
    '你好 naïve café 🦙🦙 x',
    '\ufeffbyte order mark',
  ])('gives the text of decode: %j', (text) => {
    const ids = tokenizer.encode(text);
    expect(pushAll(ids).join('')).toBe(text);
    expect(pushAll(ids).join('')).toBe(tokenizer.decode(ids));
  });

  it('shows a character spelt in bytes with its last byte, and never half of one', () => {
    expect(pushAll(tokenizer.encode('🦙é\n').slice(1))).toEqual(['', '', '', '🦙', '', 'é', '\n', '']);
  });

  it('shows a piece at once', () => {
    expect(pushAll(tokenizer.encode('low lower'))).toEqual(['low', ' lower', '']);
  });

  it('takes one leading space away, also where it comes alone or as a byte', () => {
    const space = tokenizer.encode('')[0] ?? tokenizer.encode(' ')[0];
    expect(pushAll([space, space]).join('')).toBe(tokenizer.decode([space, space]));
    expect(pushAll([byte(0x20), byte(0x20)])).toEqual(['', ' ', '']);
  });

  it('shows U+FFFD for each byte that belongs to no character, as soon as that is certain', () => {
    const cut = tokenizer.encode('🦙').slice(1, -1);
    expect(pushAll(cut)).toEqual(['', '', '', '\ufffd\ufffd\ufffd']);
    expect(pushAll([...cut, tokenizer.encode('low')[0]])).toEqual(['', '', '', '\ufffd\ufffd\ufffd low', '']);
    expect(pushAll([byte(0x80), byte(0xff), byte(0xe4), byte(0x41)])).toEqual([
      '\ufffd',
      '\ufffd',
      '',
      '\ufffdA',
      '',
    ]);
    // A surrogate and an overlong form, neither of which is UTF-8.
    expect(pushAll([byte(0xed), byte(0xa0), byte(0x80)]).join('')).toBe('\ufffd\ufffd\ufffd');
    expect(pushAll([byte(0xc0), byte(0x80)]).join('')).toBe('\ufffd\ufffd');
  });

  it('leaves special tokens out on request', () => {
    const ids = tokenizer.encode('low</s>low');
    expect(pushAll(ids).join('')).toBe('low</s> low');
    expect(pushAll(ids, { skipSpecial: true })).toEqual(['low', '', ' low', '']);
  });

  it('refuses an id outside the vocabulary', () => {
    expect(() => tokenizer.stream().push(tokenizer.vocabSize)).toThrow('is not an id of its vocabulary');
  });
});
