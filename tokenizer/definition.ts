import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { z } from 'zod';
import { UserError } from '../errors.js';
import { type AddedToken, template, tokenizerConfig, tokenizerJson } from './schema.js';

type TokenizerJson = z.infer<typeof tokenizerJson>;
type TokenizerConfig = z.infer<typeof tokenizerConfig>;

/** What the files of a tokenizer directory say, checked, with the forms that differ between versions made one. */
export interface Definition {
  /** tokenizer.json, with BOS and EOS among its added tokens. */
  json: TokenizerJson;
  /** Left and right part of every merge, best first. */
  merges: [string, string][];
  bosId: number | undefined;
  eosId: number | undefined;
  /** Whether the tokenizer itself puts BOS before and EOS after a text when asked for special tokens. */
  addBos: boolean;
  addEos: boolean;
  /** SHA-256 over the files read. */
  hash: string;
}

/** The token that stands for one byte where the vocabulary has no piece, such as `<0x0A>`. */
export function byteToken(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
}

/**
 * Reads `tokenizer.json` and, where there is one, `tokenizer_config.json` of a directory.
 * @throws UserError naming the file and the key: missing, not JSON, or asking for something unsupported
 */
export async function readDefinition(directory: string): Promise<Definition> {
  const file = join(directory, 'tokenizer.json');
  if (!existsSync(file)) {
    const hint = existsSync(join(directory, 'tokenizer.model'))
      ? '; tokenizer.model alone is not read: save the tokenizer as tokenizer.json with Hugging Face transformers'
      : '';
    throw new UserError(`${file}: no such file${hint}`);
  }
  const bytes = await read(file);
  const hash = createHash('sha256').update(bytes);
  const json = parse(file, bytes, tokenizerJson);

  const configFile = join(directory, 'tokenizer_config.json');
  let config: TokenizerConfig = {};
  if (existsSync(configFile)) {
    const configBytes = await read(configFile);
    hash.update(configBytes);
    config = parse(configFile, configBytes, tokenizerConfig);
  }

  checkIds(file, json);
  checkUnknown(file, json);
  const merges = readMerges(file, json);
  const bos = specialToken(file, json, configFile, 'bos_token', config.bos_token, '<s>');
  const eos = specialToken(file, json, configFile, 'eos_token', config.eos_token, '</s>');
  const named = [bos, eos].filter((token) => token !== undefined);
  const around = template.safeParse(json.post_processor).data;
  return {
    json: { ...json, added_tokens: [...new Set([...json.added_tokens, ...named])] },
    merges,
    bosId: bos?.id,
    eosId: eos?.id,
    addBos: config.add_bos_token ?? (bos && around?.includes(bos.content)) ?? true,
    addEos: config.add_eos_token ?? (eos && around?.includes(eos.content)) ?? false,
    hash: hash.digest('hex'),
  };
}

async function read(file: string): Promise<Uint8Array> {
  try {
    return await readFile(file);
  } catch (error) {
    throw new UserError(`${file}: cannot be read: ${(error as Error).message}`);
  }
}

function parse<T extends z.ZodType>(file: string, bytes: Uint8Array, schema: T): z.infer<T> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new UserError(`${file}: not valid JSON: ${(error as Error).message}`);
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const { path, message } = result.error.issues[0];
  const found = path.at(-1) === 'type' ? `; the file says ${JSON.stringify(valueAt(value, path))}` : '';
  throw new UserError(`${file}: ${path.join('.') || 'the file'}: ${message}${found}`);
}

function valueAt(value: unknown, path: PropertyKey[]): unknown {
  return path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key], value);
}

/** Merges come as "left right" or as pairs. */
function readMerges(file: string, { model }: TokenizerJson): [string, string][] {
  return model.merges.map((merge, rank) => {
    const parts = typeof merge === 'string' ? merge.split(' ') : merge;
    // A space within a piece would make the library's key for a merge, "left right", ambiguous.
    if (parts.length !== 2 || parts.some((part) => part === '' || part.includes(' ')))
      throw new UserError(`${file}: model.merges[${rank}] is not two pieces: ${JSON.stringify(merge)}`);
    const [left, right] = parts;
    for (const piece of [left, right, left + right])
      if (!model.vocab.has(piece))
        throw new UserError(
          `${file}: model.merges[${rank}] needs ${JSON.stringify(piece)}, which model.vocab has not`,
        );
    return [left, right];
  });
}

/**
 * The token that `key` of tokenizer_config.json names; where the key is absent the LLaMA tokenizer's own default,
 * if tokenizer.json has it; none where the key says null.
 */
function specialToken(
  file: string,
  { added_tokens, model }: TokenizerJson,
  configFile: string,
  key: string,
  name: string | null | undefined,
  standard: string,
): AddedToken | undefined {
  if (name === null) return undefined;
  const content = name ?? standard;
  const added = added_tokens.find((token) => token.content === content);
  if (added !== undefined) return added;
  const id = model.vocab.get(content);
  if (id !== undefined) return { id, content, special: true, lstrip: false, rstrip: false };
  if (name === undefined) return undefined;
  throw new UserError(`${configFile}: ${key} is ${JSON.stringify(content)}, which ${file} has not`);
}

/** Two tokens with one id, or one token with two, would make decoding ambiguous. */
function checkIds(file: string, { model, added_tokens }: TokenizerJson): void {
  const tokens = new Map<number, string>();
  for (const [token, id] of model.vocab) {
    if (tokens.has(id))
      throw new UserError(
        `${file}: id ${id} is both ${JSON.stringify(tokens.get(id))} and ${JSON.stringify(token)}`,
      );
    tokens.set(id, token);
  }
  for (const { content, id } of added_tokens) {
    const other = tokens.get(id);
    if (other !== undefined && other !== content)
      throw new UserError(
        `${file}: id ${id} is both ${JSON.stringify(other)} and ${JSON.stringify(content)}`,
      );
    const otherId = model.vocab.get(content);
    if (otherId !== undefined && otherId !== id)
      throw new UserError(`${file}: ${JSON.stringify(content)} has two ids, ${otherId} and ${id}`);
    tokens.set(id, content);
  }
}

/** Every character must become something: its bytes, or the unknown token. */
function checkUnknown(file: string, { model }: TokenizerJson): void {
  if (model.unk_token != null) {
    if (model.vocab.has(model.unk_token)) return;
    throw new UserError(
      `${file}: model.unk_token is ${JSON.stringify(model.unk_token)}, which model.vocab has not`,
    );
  }
  const bytes = Array.from({ length: 256 }, (_, byte) => byteToken(byte));
  if (!model.byte_fallback || !bytes.every((token) => model.vocab.has(token)))
    throw new UserError(
      `${file}: model.unk_token is needed, since model.vocab has no token for some characters`,
    );
}
