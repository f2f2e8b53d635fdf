import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../errors.js';

/** The JSON files decide ids; the others are not read here, but go where the tokenizer goes. */
const NAMES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'tokenizer.model',
  'chat_template.jinja',
];
const TEMPLATES = 'additional_chat_templates';

/** The files of a tokenizer directory by their names in it, read once. */
export type TokenizerFiles = ReadonlyMap<string, Uint8Array>;

/**
 * Reads the files of a tokenizer that are there.
 * @throws UserError naming the one that cannot be read
 */
export async function readTokenizerFiles(directory: string): Promise<TokenizerFiles> {
  const files = new Map<string, Uint8Array>();
  const templates = await orMissing(readdir(join(directory, TEMPLATES)), join(directory, TEMPLATES));
  const names = [
    ...NAMES,
    ...(templates ?? [])
      .filter((name) => name.endsWith('.jinja'))
      .sort()
      .map((name) => `${TEMPLATES}/${name}`),
  ];
  for (const name of names) {
    const bytes = await orMissing(readFile(join(directory, name)), join(directory, name));
    if (bytes !== undefined) files.set(name, bytes);
  }
  return files;
}

/** What is read, or undefined where there is no such file. */
async function orMissing<T>(reading: Promise<T>, path: string): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new UserError(`${path}: cannot be read: ${message}`);
  }
}

/** SHA-256 over the names and bytes of the files that decide ids. */
export function hashOf(files: TokenizerFiles): string {
  const hash = createHash('sha256');
  for (const [name, bytes] of files)
    if (name.endsWith('.json')) hash.update(`${name} ${bytes.length}\n`).update(bytes);
  return hash.digest('hex');
}
