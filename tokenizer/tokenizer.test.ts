import { describe, expect, it } from 'vitest';
import { tinyTokenizer, writeTokenizer } from '../tests/tiny_tokenizer.js';
import { BYTE_CHARACTERS, spellBytes } from './byte_level.js';
import { byteToken } from './definition.js';
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
      const ordinary = { ...json.added_tokens[0], special: false };
      json.added_tokens.push({ ...ordinary, id: id + 1, content: '### low', normalized: false });
    });
    const { vocab } = tinyTokenizer().model;
    expect(tokenizer.vocabSize).toBe(Object.keys(vocab).length + 2);
    expect(tokens('a[PAD]### lower')).toEqual(['▁', 'a', '[PAD]', '### low', '▁', 'er']);
    expect(tokenizer.decode(tokenizer.encode('### low[PAD]'), { skipSpecial: true })).toBe('### low');
  });

  it('finds an added token with normalized: true in the normalized text, as its own normalized form', async () => {
    const { tokenizer, tokens } = await load((json) => {
      const id = Object.keys(json.model.vocab).length;
      json.added_tokens.push({ ...json.added_tokens[0], id, content: 'low n', special: false });
    });
    expect(tokens('low now')).toEqual(['low n', 'o', 'w']);
    // The form is "▁low▁n": a letter before it is none of it.
    expect(tokens('alow now')).not.toContain('low n');
    expect(tokenizer.decode(tokenizer.encode('a low now'))).toBe('a low now');
  });

  describe('puts around a text, on request,', () => {
    const tags = (single: object[]) => (json: Json) => {
      const special_tokens = Object.fromEntries(['<s>', '</s>'].map((id, i) => [id, { id, ids: [i + 1] }]));
      json.post_processor = { type: 'TemplateProcessing', single, special_tokens };
    };
    const text = { Sequence: { id: 'A', type_id: 0 } };
    const token = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
    const byteLevel = (json: Json) => {
      json.post_processor = { type: 'ByteLevel', add_prefix_space: true };
    };

    it.each<[string, (json: Json) => void, object | undefined, number[], number[]]>([
      ['BOS, where no file says anything else', () => {}, undefined, [1], []],
      ['nothing, where a class does not say it', () => {}, { tokenizer_class: 'GPT2Tokenizer' }, [], []],
      ['BOS, as the LLaMA class does', () => {}, { tokenizer_class: 'LlamaTokenizerFast' }, [1], []],
      ['what the flags say', () => {}, { add_bos_token: true, add_eos_token: true }, [1], [2]],
      ['nothing, if the flag says so', tags([token('<s>'), text]), { add_bos_token: false }, [], []],
      ['what the template says', tags([text, token('</s>')]), undefined, [], [2]],
      ['what the template says, twice', tags([token('<s>'), token('<s>'), text]), undefined, [1, 1], []],
      ['nothing, where the template has none', tags([text]), undefined, [], []],
      ['nothing, where a post-processor is for something else', byteLevel, undefined, [], []],
      [
        'the two of RobertaProcessing',
        (json) => {
          const roberta = { type: 'RobertaProcessing', cls: ['<s>', 1], sep: ['</s>', 2] };
          json.post_processor = { type: 'Sequence', processors: [{ type: 'ByteLevel' }, roberta] };
        },
        undefined,
        [1],
        [2],
      ],
    ])('%s', async (_, change, config, before, after) => {
      const { tokenizer } = await load(change, config);
      const ids = tokenizer.encode('a');
      expect(tokenizer.encode('a', { special: true })).toEqual([...before, ...ids, ...after]);
      expect(tokenizer.prefix).toEqual(before);
    });
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

/** GPT-2's kind: no normalizer, bytes for characters. */
const byteLevel = (change: (json: Json) => void) => (json: Json) => {
  json.normalizer = null;
  json.pre_tokenizer = { type: 'ByteLevel', add_prefix_space: false };
  json.decoder = { type: 'ByteLevel' };
  const merges = ['Ġ l', 'l o', 'o w', 'Ġl ow', 'Ã ©'];
  const pieces = [
    '<unk>',
    '<s>',
    '</s>',
    ...BYTE_CHARACTERS,
    ...merges.map((merge) => merge.replace(' ', '')),
    'ow!',
  ];
  Object.assign(json.model, {
    unk_token: null,
    byte_fallback: false,
    vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
    merges,
  });
  change(json);
};

describe('a byte-level vocabulary', () => {
  it('spells words in bytes and merges them, each word with the space before it', async () => {
    const { tokenizer, tokens } = await load(byteLevel(() => {}));
    expect(tokens(' low lower é')).toEqual(['Ġlow', 'Ġlow', 'e', 'r', 'Ġ', 'Ã©']);
    expect(tokenizer.decode(tokenizer.encode(' low 你好 é\0🦙</s>\ufeff'))).toBe(' low 你好 é\0🦙</s>\ufeff');
  });

  it('takes a whole word that is in the vocabulary, however its merges go, where ignore_merges says so', async () => {
    const split = { type: 'WhitespaceSplit' };
    const change = (ignore: boolean) =>
      byteLevel((json) => {
        json.pre_tokenizer = {
          type: 'Sequence',
          pretokenizers: [split, { type: 'ByteLevel', use_regex: false, add_prefix_space: false }],
        };
        Object.assign(json.model, { ignore_merges: ignore });
      });
    expect((await load(change(false))).tokens('ow! low')).toEqual(['ow', '!', 'lo', 'w']);
    expect((await load(change(true))).tokens('ow! low')).toEqual(['ow!', 'lo', 'w']);
  });

  it('leaves out a byte that has no token, and merges what is then side by side', async () => {
    const { tokens } = await load(
      byteLevel((json) => {
        json.pre_tokenizer = { type: 'ByteLevel', use_regex: false, add_prefix_space: false };
        delete json.model.vocab[spellBytes('\u0016')];
      }),
    );
    expect(tokens('o\u0016w')).toEqual(['ow']);
  });

  it('shows one U+FFFD for a broken character, at once or as ids come', async () => {
    const { tokenizer } = await load(byteLevel(() => {}));
    const ids = [...tokenizer.encode('🦙').slice(0, 3), ...tokenizer.encode('a')];
    expect(tokenizer.decode(ids)).toBe('\ufffda');
    const stream = tokenizer.stream();
    expect([...ids.map((id) => stream.push(id)), stream.end()]).toEqual(['', '', '', '\ufffda', '']);
    const cut = tokenizer.stream();
    expect([cut.push(ids[0]), cut.end()]).toEqual(['', '\ufffd']);
  });
});

describe('a Unigram model', () => {
  const unigram = (change: (model: Record<string, unknown>) => void) => (json: Json) => {
    json.model = {
      type: 'Unigram',
      unk_id: 0,
      vocab: [
        ['<unk>', 0],
        ['<s>', 0],
        ['</s>', 0],
        ['▁', -2],
        ['a', -3],
        ['b', -3],
        ['▁ab', -5.5],
        ['abb', -20],
      ],
    } as never;
    change(json.model as never);
  };
  const load = async (change: (model: Record<string, unknown>) => void = () => {}) => {
    const json = tinyTokenizer();
    unigram(change)(json);
    return loadTokenizer(writeTokenizer(json));
  };

  it('takes the pieces that are likeliest together', async () => {
    const tokenizer = await load();
    expect(tokenizer.encode('ab abb')).toEqual([6, 6, 5]);
    expect(tokenizer.decode([6, 6, 5])).toBe('ab abb');
  });

  it('gives a run of unknown characters one unknown token, or their bytes', async () => {
    expect((await load()).encode('xxa')).toEqual([3, 0, 4]);
    const bytes = await load((model) => {
      const vocab = model.vocab as unknown[];
      for (let byte = 0; byte < 256; byte++) vocab.push([byteToken(byte), -30]);
      model.byte_fallback = true;
    });
    expect(bytes.encode('éa')).toEqual([3, 8 + 0xc3, 8 + 0xa9, 4]);
    expect(bytes.decode(bytes.encode('éa'))).toBe('éa');
  });
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
