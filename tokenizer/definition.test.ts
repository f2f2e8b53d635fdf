import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { UserError } from '../errors.js';
import { tinyTokenizer, writeTokenizer } from '../tests/tiny_tokenizer.js';
import { definitionOf } from './definition.js';
import { readTokenizerFiles } from './files.js';

const readDefinition = async (directory: string) => definitionOf(directory, readTokenizerFiles(directory));

type Json = ReturnType<typeof tinyTokenizer>;

async function failure(directory: string): Promise<string> {
  const error = await readDefinition(directory).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UserError);
  return (error as Error).message.replaceAll(directory, 'DIR');
}

const ids = '; rows of token ids need no tokenizer: {"ids": [...], "labels": [...]}';

describe('definitionOf', () => {
  it('names the missing file, and what to do with a tokenizer.model', async () => {
    const directory = writeTokenizer(undefined);
    expect(await failure(directory)).toBe('DIR/tokenizer.json: no such file');
    writeFileSync(join(directory, 'tokenizer.model'), '');
    expect(await failure(directory)).toBe(
      'DIR/tokenizer.json: no such file; tokenizer.model alone is not read. Hugging Face transformers makes tokenizer.json ' +
        'of it: python -c "from transformers import AutoTokenizer; ' +
        "AutoTokenizer.from_pretrained('DIR').save_pretrained('DIR')\"",
    );
  });

  it('names a file that is not JSON', async () => {
    expect(await failure(writeTokenizer('{"model": '))).toMatch(/^DIR\/tokenizer.json: not valid JSON: /);
    expect(await failure(writeTokenizer(tinyTokenizer(), '{'))).toMatch(
      /^DIR\/tokenizer_config.json: not valid JSON: /,
    );
    expect(await failure(writeTokenizer('[]'))).toMatch(/^DIR\/tokenizer.json: the file: .*expected object/);
  });

  it.each<[string, (json: Json) => void, string]>([
    [
      'another model',
      (json) => {
        json.model.type = 'WordPiece';
      },
      `model.type: "WordPiece" is not supported (BPE, Unigram are)${ids}`,
    ],
    [
      'an unknown pre-tokenizer',
      (json) => {
        json.pre_tokenizer = {
          type: 'Sequence',
          pretokenizers: [{ type: 'Digits' }, { type: 'UnicodeScripts' }],
        };
      },
      'pre_tokenizer.1.type: "UnicodeScripts" is not supported (Metaspace, ByteLevel, Split, Digits, Punctuation, ' +
        `Whitespace, WhitespaceSplit are)${ids}`,
    ],
    [
      'an unknown normalizer',
      (json) => {
        json.normalizer = { type: 'Precompiled' };
      },
      `normalizer.0.type: "Precompiled" is not supported (Prepend, Replace, NFC, NFD, NFKC, NFKD, Lowercase, Strip are)${ids}`,
    ],
    [
      'a regular expression that JavaScript has no words for',
      (json) => {
        json.normalizer = { type: 'Replace', pattern: { Regex: '(?<n>a)\\g<n>[' }, content: '▁' };
      },
      `normalizer.0.pattern: this regular expression is not supported: Unterminated character class at index 12${ids}`,
    ],
    [
      'an unknown decoder',
      (json) => {
        json.decoder = { type: 'Sequence', decoders: [{ type: 'WordPiece' }] };
      },
      `decoder.0.type: "WordPiece" is not supported (Replace, ByteFallback, Fuse, Strip, Metaspace, ByteLevel are)${ids}`,
    ],
    [
      'no decoder',
      (json) => {
        json.decoder = null;
      },
      'decoder: missing; {"type": "Fuse"} joins the tokens as they are',
    ],
    [
      'dropout',
      (json) => void (json.model.dropout = 0.1),
      `model.dropout: BPE dropout is not supported${ids}`,
    ],
    [
      'suffixes',
      (json) => void Object.assign(json.model, { end_of_word_suffix: '</w>' }),
      `model.end_of_word_suffix: end_of_word_suffix is not supported${ids}`,
    ],
    [
      'merges of three parts',
      (json) => void json.model.merges.push('a b c'),
      'model.merges[10] is not two pieces: "a b c"',
    ],
    [
      'merges outside the vocabulary',
      (json) => void json.model.merges.push(['a', 'b']),
      'model.merges[10] needs "ab", which model.vocab has not',
    ],
    [
      'an unknown token outside the vocabulary',
      (json) => void (json.model.unk_token = '[UNK]'),
      'model.unk_token is "[UNK]", which model.vocab has not',
    ],
    [
      'characters that would become nothing',
      (json) => {
        json.model.unk_token = null;
        delete json.model.vocab['<0xA9>'];
      },
      'model.unk_token is needed, since model.vocab has no token for some characters',
    ],
    ['two tokens with one id', (json) => void (json.model.vocab.b = 260), 'id 260 is both "a" and "b"'],
    [
      'an added token on a taken id',
      (json) => void (json.added_tokens[0].content = '[PAD]'),
      'id 0 is both "<unk>" and "[PAD]"',
    ],
    [
      'an added token with another id',
      (json) => void (json.added_tokens[2].id = 999),
      '"</s>" has two ids, 2 and 999',
    ],
  ])('refuses %s', async (_, change, message) => {
    const json = tinyTokenizer();
    change(json);
    expect(await failure(writeTokenizer(json))).toBe(`DIR/tokenizer.json: ${message}`);
  });

  it('refuses a BOS that the vocabulary has not', async () => {
    const directory = writeTokenizer(tinyTokenizer(), { bos_token: '[BOS]' });
    expect(await failure(directory)).toBe(
      'DIR/tokenizer_config.json: bos_token is "[BOS]", which DIR/tokenizer.json has not',
    );
  });

  it('finds BOS and EOS in tokenizer_config.json, in all its forms', async () => {
    const read = (config?: object) => readDefinition(writeTokenizer(tinyTokenizer(), config));
    expect(await read()).toMatchObject({ bosId: 1, eosId: 2 });
    expect(await read({ bos_token: '</s>', eos_token: null })).toMatchObject({ bosId: 2, eosId: undefined });
    const object = { __type: 'AddedToken', content: 'a', special: true };
    expect(await read({ bos_token: object, eos_token: { content: '<s>' } })).toMatchObject({
      bosId: 260,
      eosId: 1,
    });
  });

  it('takes BOS and EOS for special tokens where only the vocabulary has them', async () => {
    const json = { ...tinyTokenizer(), added_tokens: [] };
    const definition = await readDefinition(writeTokenizer(json));
    expect(definition.addedTokens).toMatchObject([
      { id: 1, content: '<s>', special: true },
      { id: 2, content: '</s>', special: true },
    ]);
  });

  it('knows a vocabulary of any names', async () => {
    const json = tinyTokenizer();
    const text = JSON.stringify(json).replace('"▁▁":', '"__proto__":').replace('"▁ ▁",', '');
    const definition = await readDefinition(writeTokenizer(text));
    expect(definition.json.model.vocab.get('__proto__')).toBe(json.model.vocab['▁▁']);
  });
});

describe('the files of a tokenizer together', () => {
  const size = Object.keys(tinyTokenizer().model.vocab).length;
  const read = async (files: Record<string, unknown>) => {
    const directory = writeTokenizer(tinyTokenizer());
    for (const [name, value] of Object.entries(files))
      writeFileSync(join(directory, `${name}.json`), JSON.stringify(value));
    return { directory, definition: () => readDefinition(directory), failure: () => failure(directory) };
  };
  const added = async (files: Record<string, unknown>) =>
    (await (await read(files)).definition()).addedTokens.filter(({ id }) => id >= size);

  it('are one where a token stands in added_tokens.json alone', async () => {
    const files = { added_tokens: { '<|im_end|>': size + 1, '<|im_start|>': size } };
    expect(await added(files)).toMatchObject([
      { id: size, content: '<|im_start|>', special: false, normalized: true },
      { id: size + 1, content: '<|im_end|>', special: false, normalized: true },
    ]);
    const named = { ...files, special_tokens_map: { eos_token: '<|im_end|>' } };
    expect(await added(named)).toMatchObject([
      { id: size },
      { id: size + 1, special: true, normalized: false },
    ]);
    expect(await (await read(named)).definition()).toMatchObject({ eosId: size + 1 });
  });

  it('are one where a token stands in added_tokens_decoder alone, with its flags; then older files do not count', async () => {
    const config = {
      added_tokens_decoder: {
        '2': { content: '</s>', lstrip: true, special: true },
        [size]: { content: '<|im_end|>', rstrip: true, special: false },
      },
      eos_token: '<|im_end|>',
    };
    const files = {
      tokenizer_config: config,
      special_tokens_map: { eos_token: '<s>' },
      added_tokens: { x: 9999 },
    };
    expect(await added(files)).toMatchObject([
      { id: size, content: '<|im_end|>', rstrip: true, special: true },
    ]);
    const definition = await (await read(files)).definition();
    expect(definition.eosId).toBe(size);
    expect(definition.addedTokens.find(({ id }) => id === 2)).toMatchObject({
      content: '</s>',
      lstrip: true,
    });
  });

  it('are one where a special token is only named', async () => {
    const names = { additional_special_tokens: ['<|user|>', { content: '</s>' }] };
    expect(await added({ special_tokens_map: names })).toMatchObject([
      { id: size, content: '<|user|>', special: true },
    ]);
    expect(await added({ tokenizer_config: names })).toMatchObject([{ id: size, content: '<|user|>' }]);
  });

  it.each<[Record<string, unknown>, string]>([
    [
      { added_tokens: { '<|im_start|>': size + 5 } },
      `DIR/added_tokens.json: "<|im_start|>" has the id ${size + 5}; in DIR/tokenizer.json the next free id is ${size}`,
    ],
    [
      { added_tokens: { '</s>': 7 } },
      'DIR/added_tokens.json: "</s>" has the id 7; in DIR/tokenizer.json it has 2',
    ],
    [
      { tokenizer_config: { added_tokens_decoder: { 7: { content: '</s>' } } } },
      'DIR/tokenizer_config.json: "</s>" has the id 7; in DIR/tokenizer.json it has 2',
    ],
    [
      { special_tokens_map: { eos_token: '[EOS]' } },
      'DIR/special_tokens_map.json: eos_token is "[EOS]", which DIR/tokenizer.json has not',
    ],
  ])('are refused where they contradict each other: %j', async (files, message) => {
    expect(await (await read(files)).failure()).toContain(message);
  });
});
