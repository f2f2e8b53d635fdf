import { join } from 'node:path';
import { type FileDigest, writeSynced } from '../engine/checkpoint/synced_file.js';
import { exists, readRegular } from '../files.js';
import { readTokenizerFiles } from '../tokenizer/index.js';
import { GENERATION_CONFIG } from './generation_config.js';
import type { RunConfig } from './settings.js';

/** What a Hugging Face directory holds besides weights and config, by names in it. */
export type Companions = ReadonlyMap<string, Uint8Array>;

/**
 * The files that go with each model a run saves: of its tokenizer, and generation_config.json of the model that it
 * starts from. They are read once, before the first step: a run has one tokenizer, whatever becomes of its files.
 * @throws UserError naming a file that cannot be read
 */
export function readCompanions(config: RunConfig): Companions {
  const { tokenizer_name_or_path: tokenizer, model_name_or_path: model } = config;
  const companions = new Map(tokenizer === undefined ? [] : readTokenizerFiles(tokenizer));
  const path = join(model ?? '', GENERATION_CONFIG);
  if (model !== undefined && exists(path)) companions.set(GENERATION_CONFIG, readRegular(path));
  return companions;
}

/** @returns the digests of the files, which are synced */
export async function writeCompanions(directory: string, companions: Companions): Promise<FileDigest[]> {
  const digests: FileDigest[] = [];
  for (const [name, bytes] of companions)
    digests.push(await writeSynced(join(directory, name), (file) => file.append(bytes)));
  return digests;
}
