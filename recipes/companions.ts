import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileError } from '../errors.js';
import { readTokenizerFiles } from '../tokenizer/index.js';
import type { RunConfig } from './settings.js';

/** What a Hugging Face directory holds besides weights and config, by names in it. */
export type Companions = ReadonlyMap<string, Uint8Array>;

const GENERATION_CONFIG = 'generation_config.json';

/**
 * The files that go with each model a run saves: of its tokenizer, and generation_config.json of the model that it
 * starts from. They are read once, before the first step: a run has one tokenizer, whatever becomes of its files.
 * @throws UserError naming a file that cannot be read
 */
export async function readCompanions(config: RunConfig): Promise<Companions> {
  const { tokenizer_name_or_path: tokenizer, model_name_or_path: model } = config;
  const companions = new Map(tokenizer === undefined ? [] : await readTokenizerFiles(tokenizer));
  for (const source of [model, tokenizer]) {
    const path = join(source ?? '', GENERATION_CONFIG);
    if (source === undefined || !existsSync(path)) continue;
    try {
      companions.set(GENERATION_CONFIG, await readFile(path));
    } catch (error) {
      throw fileError(error, path, 'it goes with every model that the run saves');
    }
    break;
  }
  return companions;
}

export async function writeCompanions(directory: string, companions: Companions): Promise<void> {
  for (const [name, bytes] of companions) {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await writeFile(join(directory, name), bytes);
  }
}
