import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { UserError } from '../errors.js';
import { tinyTokenizer, writeTokenizer } from '../tests/tiny_tokenizer.js';
import { readDefinition } from './definition.js';

type Json = ReturnType<typeof tinyTokenizer>;

async function failure(directory: string): Promise<string> {
  const error = await readDefinition(directory).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UserError);
  return (error as Error).message.replaceAll(directory, 'DIR');
}

describe('readDefinition', () => {
  it('names the missing file, and what to do with a tokenizer.model', async () => {
    const directory = writeTokenizer(undefined);
    expect(await failure(directory)).toBe('DIR/tokenizer.json: no such file');
    writeFileSync(join(directory, 'tokenizer.model'), '');
    expect(await failure(directory)).toContain('save the tokenizer as tokenizer.json');
  });

  it('names a file that cannot be read', async () => {
    const directory = writeTokenizer(undefined);
    mkdirSync(join(directory, 'tokenizer.json'));
    expect(await failure(directory)).toMatch(/^DIR\/tokenizer.json: cannot be read: EISDIR/);
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
        json.model.type = 'Unigram';
      },
      'model.type: Invalid input: expected "BPE"; the file says "Unigram"',
    ],
    [
      'byte-level pre-tokenizers',
      (json) => {
        json.pre_tokenizer = { type: 'ByteLevel', add_prefix_space: false };
      },
      'pre_tokenizer.type: Invalid input: expected "Metaspace"; the file says "ByteLevel"',
    ],
    [
      'an unknown normalizer',
      (json) => {
        json.normalizer = { type: 'Precompiled' };
      },
      `normalizer.type: Invalid discriminator value. Expected 'Sequence' | 'Prepend' | 'NFC' | 'NFKC' | 'Replace'; the file says "Precompiled"`,
    ],
    [
      'a Replace by regular expression',
      (json) => {
        json.normalizer = { type: 'Replace', pattern: { Regex: ' +' }, content: '▁' };
      },
      'normalizer.pattern.String: expected a string (regular expressions are not supported)',
    ],
    [
      'an unknown decoder',
      (json) => {
        json.decoder = { type: 'Sequence', decoders: [{ type: 'WordPiece' }] };
      },
      `decoder.decoders.0.type: Invalid discriminator value. Expected 'Replace' | 'ByteFallback' | 'Fuse' | 'Strip' | 'Metaspace'; the file says "WordPiece"`,
    ],
    [
      'no decoder',
      (json) => {
        json.decoder = null;
      },
      'decoder: missing; {"type": "Fuse"} joins the tokens as they are',
    ],
    ['dropout', (json) => void (json.model.dropout = 0.1), 'model.dropout: BPE dropout is not supported'],
    [
      'tokens that match whole words only',
      (json) => void (json.added_tokens[1].single_word = true),
      'added_tokens.1.single_word: single_word: true is not supported',
    ],
    [
      'suffixes',
      (json) => void Object.assign(json.model, { end_of_word_suffix: '</w>' }),
      'model.end_of_word_suffix: end_of_word_suffix is not supported',
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
    expect(await read()).toMatchObject({ bosId: 1, eosId: 2, addBos: true, addEos: false });
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
    expect(definition.json.added_tokens).toMatchObject([
      { id: 1, content: '<s>', special: true },
      { id: 2, content: '</s>', special: true },
    ]);
  });

  it('hashes what decides the ids', async () => {
    const hash = async (json: Json, config?: object) =>
      (await readDefinition(writeTokenizer(json, config))).hash;
    const json = tinyTokenizer();
    expect(await hash(json)).toBe(await hash(json));
    expect(await hash(json, {})).not.toBe(await hash(json));
    expect(await hash({ ...json, version: '1.1' })).not.toBe(await hash(json));
  });
});
