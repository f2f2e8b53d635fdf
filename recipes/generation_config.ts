import { join } from 'node:path';
import { type Node, parseDocument, type YAMLMap } from 'yaml';
import { z } from 'zod';
import { UserError } from '../errors.js';
import { exists, parseJson, readRegular } from '../files.js';

/** A model's `generation_config.json`, as far as it says what begins and what ends a text. */
export interface GenerationConfig {
  /** The file as it is. */
  text: string;
  /** Undefined where the file does not say. */
  bos_token_id: number[] | undefined;
  /** Any of these ends a text. */
  eos_token_id: number[] | undefined;
}

const generationConfig = z.looseObject(
  {
    bos_token_id: z.int('must be a token id').nullish(),
    eos_token_id: z.union([z.int(), z.array(z.int())], 'must be a token id or a list of them').nullish(),
  },
  'must be an object',
);

export const GENERATION_CONFIG = 'generation_config.json';

/** The `generation_config.json` of a model directory; undefined when there is none. */
export function readGenerationConfig(directory: string): GenerationConfig | undefined {
  const file = join(directory, GENERATION_CONFIG);
  return exists(file) ? parseGenerationConfig(file, readRegular(file)) : undefined;
}

/** @throws UserError naming the file and the key */
export function parseGenerationConfig(file: string, bytes: Uint8Array): GenerationConfig {
  const result = generationConfig.safeParse(parseJson(bytes, file));
  if (!result.success) {
    const { path, message } = result.error.issues[0];
    throw new UserError(`${file}: ${String(path[0] ?? 'the file')} ${message}`);
  }
  const listed = (ids: number | number[] | null | undefined) => (ids == null ? undefined : [ids].flat());
  const { bos_token_id, eos_token_id } = result.data;
  return {
    text: new TextDecoder().decode(bytes),
    bos_token_id: listed(bos_token_id),
    eos_token_id: listed(eos_token_id),
  };
}

/** The text of a `generation_config.json` with other token ids, and everything else as it is written there. */
export function withTokenIds(text: string, ids: Record<string, unknown>): string {
  return Object.entries(ids).reduce((edited, [key, value]) => {
    // JSON is YAML, whose parser knows where a value stands. Written anew, 2.0 would become 2, which transformers
    // refuses as a temperature.
    const map = parseDocument(edited).contents as YAMLMap;
    const range = (map.get(key, true) as Node | undefined)?.range;
    if (range) return edited.slice(0, range[0]) + JSON.stringify(value) + edited.slice(range[1]);
    const first = edited.indexOf('{') + 1;
    return `${edited.slice(0, first)}\n  "${key}": ${JSON.stringify(value)}${map.items.length > 0 ? ',' : '\n'}${edited.slice(first)}`;
  }, text);
}
