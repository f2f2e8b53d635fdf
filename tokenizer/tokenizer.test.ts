import { describe, expect, it } from 'vitest';
import { tinyTokenizer, writeTokenizer } from '../tests/tiny_tokenizer.js';
import { loadTokenizer } from './index.js';

type Json = ReturnType<typeof tinyTokenizer>;

/** A tokenizer made from the tiny one, and its vocabulary's tokens by id. */
async function load(change: (json: Json) => void = () => {}, config?: unknown) {
  const json = tinyTokenizer();
  change(json);
  const tokens = new Map(Object.entries(json.model.vocab).map(([token, id]) => [id, token]));
  for (const { content, id } of json.added_tokens) tokens.set(id, content);
  const tokenizer = await loadTokenizer(writeTokenizer(json, config));
  return { tokenizer, tokens: (text: string) => tokenizer.encode(text).map((id) => tokens.get(id)) };
}

const metaspace = (options: object) => (json: Json) => {
  json.normalizer = null;
  json.pre_tokenizer = { type: 'Metaspace', replacement: '▁', ...options };
};

describe('encode', () => {
  it('puts ▁ before the text and for each space, and merges the best pairs first', async () => {
    const { tokens } = await load();
    expect(tokens('lower low')).toEqual(['▁lower', '▁low']);
    expect(tokens('  newer')).toEqual(['▁▁', '▁n', 'e', 'w', 'er']);
    expect(tokens('')).toEqual([]);
    expect(tokens(' ')).toEqual(['▁▁']);
  });

  it('spells characters outside the vocabulary in bytes', async () => {
    const { tokens } = await load();
    expect(tokens('\né🦙你好')).toEqual([
      '▁',
      '<0x0A>',
      '<0xC3>',
      '<0xA9>',
      '<0xF0>',
      '<0x9F>',
      '<0xA6>',
      '<0x99>',
      '你好',
    ]);
  });

  it('takes half a surrogate pair for U+FFFD', async () => {
    const { tokens } = await load();
    expect(tokens('\ud83d')).toEqual(['▁', '<0xEF>', '<0xBF>', '<0xBD>']);
  });

  it('gives a character the unknown token where one of its bytes is missing, once for a run if they are fused', async () => {
    const without = (fuse: boolean) => (json: Json) => {
      json.model.fuse_unk = fuse;
      delete json.model.vocab['<0xA9>'];
    };
    const fused = await load(without(true));
    expect(fused.tokens('éé lowéè')).toEqual(['▁', '<unk>', '▁low', '<unk>', '<0xC3>', '<0xA8>']);
    const single = await load(without(false));
    expect(single.tokens('éé')).toEqual(['▁', '<unk>', '<unk>']);
  });

  it('matches special tokens on the raw text, and gives each stretch between its own ▁', async () => {
    const { tokens } = await load();
    expect(tokens('low</s>low <s> low')).toEqual(['▁low', '</s>', '▁low', '▁', '<s>', '▁▁', 'low']);
  });

  it('knows added tokens beyond the model, special or not', async () => {
    const { tokenizer, tokens } = await load((json) => {
      const id = Object.keys(json.model.vocab).length;
      json.added_tokens.push({ ...json.added_tokens[0], id, content: '[PAD]' });
      json.added_tokens.push({ ...json.added_tokens[0], id: id + 1, content: '### low', special: false });
    });
    const { vocab } = tinyTokenizer().model;
    expect(tokenizer.vocabSize).toBe(Object.keys(vocab).length + 2);
    expect(tokens('a[PAD]### lower')).toEqual(['▁', 'a', '[PAD]', '### low', '▁', 'er']);
    expect(tokenizer.decode(tokenizer.encode('### low[PAD]'), { skipSpecial: true })).toBe('### low');
  });

  it('adds BOS and EOS only on request, as the flags of the tokenizer say', async () => {
    const { tokenizer } = await load();
    expect(tokenizer.encode('a', { special: true })).toEqual([1, ...tokenizer.encode('a')]);
    const both = await load(undefined, { add_bos_token: true, add_eos_token: true });
    expect(both.tokenizer.encode('a', { special: true })).toEqual([1, ...tokenizer.encode('a'), 2]);
    const none = await load(undefined, { add_bos_token: false });
    expect(none.tokenizer.encode('a', { special: true })).toEqual(tokenizer.encode('a'));
    const template = await load((json) => {
      json.post_processor = {
        type: 'TemplateProcessing',
        single: [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: '</s>', type_id: 0 } }],
      };
    });
    expect(template.tokenizer.encode('a', { special: true })).toEqual([...tokenizer.encode('a'), 2]);
  });

  it('takes merges as pairs', async () => {
    const { tokens } = await load((json) => {
      json.model.merges = json.model.merges.map((merge) => (merge as string).split(' '));
    });
    expect(tokens('lower')).toEqual(['▁lower']);
  });

  it.each([
    ['old', { add_prefix_space: true }, ['▁low', '</s>', '▁low', '▁', '▁', 'a']],
    ['old, no prefix', { add_prefix_space: false }, ['low', '</s>', 'low', '▁', '▁', 'a']],
    ['always', { prepend_scheme: 'always', split: false }, ['▁low', '</s>', '▁low', '▁▁', 'a']],
    ['first', { prepend_scheme: 'first', split: false }, ['▁low', '</s>', 'low', '▁▁', 'a']],
    ['never', { prepend_scheme: 'never', split: false }, ['low', '</s>', 'low', '▁▁', 'a']],
    ['split', { prepend_scheme: 'first', split: true }, ['▁low', '</s>', 'low', '▁', '▁', 'a']],
  ])('reads the Metaspace pre-tokenizer: %s', async (_, options, expected) => {
    const { tokens } = await load(metaspace(options));
    expect(tokens('low</s>low  a')).toEqual(expected);
  });

  it('puts no second ▁ before a space with Metaspace', async () => {
    const { tokens } = await load(metaspace({ prepend_scheme: 'always', split: false }));
    expect(tokens(' low')).toEqual(['▁low']);
  });

  it('works on characters alone, without merges, normalizer or bytes', async () => {
    const { tokenizer } = await load((json) => {
      json.normalizer = null;
      json.decoder = { type: 'Fuse' };
      json.model.byte_fallback = false;
      json.model.merges = [];
      json.model.vocab = Object.fromEntries(
        ['<unk>', '<s>', '</s>', ...' abc'].map((token, id) => [token, id]),
      );
    });
    expect(tokenizer.encode('a cab</s>xx')).toEqual([4, 3, 6, 4, 5, 2, 0]);
    expect(tokenizer.decode([4, 3, 6, 4, 5])).toBe('a cab');
  });

  it('forgets its cache when it is full, and goes on giving the same ids', async () => {
    const { tokenizer } = await load();
    const word = (i: number) =>
      `low${i.toString(26).replace(/\d/g, (digit) => 'qrstuvwxyz'[Number(digit)])}er`;
    const before = Array.from({ length: 200 }, (_, i) => tokenizer.encode(word(i)));
    for (let i = 0; i < 100_000; i++) tokenizer.encode(word(i));
    expect(Array.from({ length: 200 }, (_, i) => tokenizer.encode(word(i)))).toEqual(before);
    expect((tokenizer as unknown as { cache: Map<string, unknown> }).cache.size).toBeLessThanOrEqual(65_536);
  });

  it('encodes one long piece in less than quadratic time', async () => {
    const { tokens } = await load((json) => {
      json.model.vocab.aa = Object.keys(json.model.vocab).length;
      json.model.merges.push('a a');
    });
    // Quadratic time would be 10^10 steps, minutes beyond this test's time limit.
    const ids = tokens('a'.repeat(200_000));
    expect(ids).toHaveLength(100_001);
    expect(ids[100_000]).toBe('aa');
  }, 30_000);
});

describe('decode', () => {
  it('gives back the text, without the space that the first ▁ stands for', async () => {
    const { tokenizer } = await load();
    for (const text of ['lower low', '  a ', '\n\té🦙你好', '\ufeffx', 'a\0b'])
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    expect(tokenizer.decode([])).toBe('');
  });

  it('shows special tokens unless they are to be skipped', async () => {
    const { tokenizer } = await load();
    const ids = [1, ...tokenizer.encode('low'), 2];
    expect(tokenizer.decode(ids)).toBe('<s> low</s>');
    expect(tokenizer.decode(ids, { skipSpecial: true })).toBe('low');
    expect(tokenizer.decode(Int32Array.from(ids), { skipSpecial: true })).toBe('low');
  });

  it('shows each byte of a run that is not UTF-8 as U+FFFD', async () => {
    const { tokenizer } = await load();
    const cut = tokenizer.encode('🦙').slice(0, -1);
    expect(tokenizer.decode(cut)).toBe('\ufffd\ufffd\ufffd');
  });

  it('does not tidy spaces before punctuation away', async () => {
    const { tokenizer } = await load(undefined, { clean_up_tokenization_spaces: true });
    expect(tokenizer.decode(tokenizer.encode('low . low !'))).toBe('low . low !');
  });

  it('reads the Metaspace decoder', async () => {
    for (const options of [{ add_prefix_space: true }, { prepend_scheme: 'first' }]) {
      const { tokenizer } = await load((json) => {
        metaspace(options)(json);
        json.decoder = { type: 'Metaspace', replacement: '▁', ...options };
      });
      expect(tokenizer.decode(tokenizer.encode('low  lower'))).toBe('low  lower');
    }
  });

  it.each([-1, 1.5, 1e9, Number.NaN])('refuses %s', async (id) => {
    const { tokenizer } = await load();
    expect(() => tokenizer.decode([id])).toThrow(
      `${tokenizer.directory}: ${id} is not an id of its vocabulary, 0 to ${tokenizer.vocabSize - 1}`,
    );
  });
});
