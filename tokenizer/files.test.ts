import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { UserError } from '../errors.js';
import { tinyTokenizer, writeTokenizer } from '../tests/tiny_tokenizer.js';
import { hashOf, readTokenizerFiles } from './files.js';

describe('readTokenizerFiles', () => {
  it('reads all that belongs to a tokenizer, and nothing else', async () => {
    const directory = writeTokenizer(tinyTokenizer(), {});
    for (const name of ['chat_template.jinja', 'config.json', 'README.md'])
      writeFileSync(join(directory, name), name);
    const files = readTokenizerFiles(directory);
    expect([...files.keys()]).toEqual(['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja']);
    rmSync(directory, { recursive: true });
    expect(Buffer.from(files.get('chat_template.jinja')!).toString()).toBe('chat_template.jinja');
  });

  it('names a file that cannot be read', async () => {
    const directory = writeTokenizer(undefined);
    mkdirSync(join(directory, 'tokenizer.json'));
    expect(() => readTokenizerFiles(directory)).toThrow(UserError);
    expect(() => readTokenizerFiles(directory)).toThrow(
      `${directory}/tokenizer.json: expected a regular file, this is a directory`,
    );
  });
});

describe('hashOf', () => {
  it('changes with what decides the ids, and with that alone', async () => {
    const hash = async (json: object, config?: object, template?: string) => {
      const directory = writeTokenizer(json, config);
      if (template !== undefined) writeFileSync(join(directory, 'chat_template.jinja'), template);
      return hashOf(readTokenizerFiles(directory));
    };
    const json = tinyTokenizer();
    expect(await hash(json)).toBe(await hash(json));
    expect(await hash(json, {})).not.toBe(await hash(json));
    expect(await hash({ ...json, version: '1.1' })).not.toBe(await hash(json));
    expect(await hash(json, {}, 'template')).toBe(await hash(json, {}));
  });
});
