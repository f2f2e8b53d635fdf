import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { exists, readRegular } from '../files.js';

/** The JSON files decide ids; the others are not read here, but go where the tokenizer goes. */
const NAMES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'tokenizer.model',
  'chat_template.jinja',
];
/** Of tokenizer.json: 256,000 pieces with their merges take some 30 MB. */
const MOST_BYTES = 40 * 2 ** 20;

/** The files of a tokenizer directory by their names in it, read once. */
export type TokenizerFiles = ReadonlyMap<string, Uint8Array>;

/**
 * Reads the files of a tokenizer that are there.
 * @throws UserError naming the one that cannot be read
 */
export function readTokenizerFiles(directory: string): TokenizerFiles {
  const there = NAMES.filter((name) => exists(join(directory, name)));
  const most = (name: string) => (name === 'tokenizer.json' ? MOST_BYTES : undefined);
  return new Map(there.map((name) => [name, readRegular(join(directory, name), undefined, most(name))]));
}

/** SHA-256 over the names and bytes of the files that decide ids. */
export function hashOf(files: TokenizerFiles): string {
  const hash = createHash('sha256');
  for (const [name, bytes] of files)
    if (name.endsWith('.json')) hash.update(`${name} ${bytes.length}\n`).update(bytes);
  return hash.digest('hex');
}
