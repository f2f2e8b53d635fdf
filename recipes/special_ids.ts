import type { Dataset } from '../data/index.js';
import type { LlamaConfig } from '../engine/model/config.js';
import type { Tokenizer } from '../tokenizer/index.js';
import { type GenerationConfig, withTokenIds } from './generation_config.js';

/** All that says which ids begin and end a text. */
export interface SpecialIdSources {
  model: LlamaConfig;
  /** Whether the model is a new one, from model_config. */
  isNew: boolean;
  generation: GenerationConfig | undefined;
  /** Of rows of token ids there may be none. */
  tokenizer: Tokenizer | undefined;
  dataset: Dataset;
}

/** A model and its generation_config.json that name the BOS and EOS which the rows have. */
export interface SpecialIds {
  model: LlamaConfig;
  /** The text to save as generation_config.json; undefined when the model comes without one. */
  generationConfig: string | undefined;
  /** Lines for the user. */
  differences: string[];
}

type Key = 'bos_token_id' | 'eos_token_id';

/**
 * Makes BOS and EOS of config.json and generation_config.json those that the rows begin and end with. Texts are encoded
 * with the tokenizer's; of rows of ids it is looked up which of the ids named anywhere they have. Where they have none,
 * nothing is changed, but that a new model takes the tokenizer's.
 *
 * As in transformers' Trainer, config.json then names what was trained on alone (a list that holds it stays), while in
 * generation_config.json it goes before the ids that ended a text already.
 */
export function reconcileSpecialIds({
  model,
  isNew,
  generation,
  tokenizer,
  dataset,
}: SpecialIdSources): SpecialIds {
  const differences: string[] = [];

  /** The ids that config.json and generation_config.json are to have; undefined to leave them alone. */
  const reconcile = (key: Key, ofTokenizer: number[], ofModel: number[]) => {
    // A default that nobody wrote says nothing.
    const inConfig = model.raw[key] === undefined ? undefined : ofModel;
    const inGeneration = generation?.[key];
    const named = [...new Set([...ofTokenizer, ...ofModel, ...(inGeneration ?? [])])];
    const inRows =
      dataset.report.form === 'alpaca' ? ofTokenizer : named.filter((id) => isInRows(dataset, key, id));
    const isFound = dataset.report.form === 'alpaca' || inRows.length > 0;
    if (!isFound) {
      if (key === 'eos_token_id' && named.length > 0)
        differences.push(
          `no row of ${dataset.report.path} ends in ${shownIds(named)} (eos_token_id): where to stop is not learned from them`,
        );
      if (!isNew || tokenizer === undefined) return {};
    }
    const ids = isFound ? inRows : ofTokenizer;
    const agrees = (said: readonly number[] | undefined) =>
      said === undefined || (ids.length === 0 ? said.length === 0 : ids.every((id) => said.includes(id)));
    if (!agrees(inConfig) || !agrees(inGeneration)) {
      const said = [
        ['the tokenizer', tokenizer && ofTokenizer] as const,
        [isNew ? 'model_config' : 'config.json', inConfig] as const,
        ['generation_config.json', inGeneration] as const,
      ].flatMap(([name, some]) => (some === undefined ? [] : [`${name} says ${shownIds(some)}`]));
      differences.push(
        `${key}: ${said.join(', ')}; ${key === 'eos_token_id' && isFound ? 'rows end in' : 'taken is'} ${shownIds(ids)}, and that is saved`,
      );
    }
    return {
      config: inConfig !== undefined && agrees(inConfig) ? undefined : ids,
      generation: inGeneration !== undefined && agrees(inGeneration) ? undefined : ids,
    };
  };

  const bos = reconcile('bos_token_id', listed(tokenizer?.bosId), listed(model.bosTokenId));
  const eos = reconcile('eos_token_id', listed(tokenizer?.eosId), model.eosTokenId);
  return {
    model: {
      ...model,
      ...(bos.config && { bosTokenId: bos.config[0] }),
      ...(eos.config && { eosTokenId: eos.config }),
    },
    generationConfig:
      generation &&
      withTokenIds(generation.text, {
        // Without a BOS transformers takes none; without an EOS it would not stop.
        ...(generation.bos_token_id && bos.generation && { bos_token_id: bos.generation[0] ?? null }),
        ...(eos.generation && {
          eos_token_id: [...new Set([...eos.generation, ...(generation.eos_token_id ?? [])])],
        }),
      }),
    differences,
  };
}

/** Whether a row begins (BOS) or ends (EOS) with the id. Where a row was cut it does not end. */
function isInRows(dataset: Dataset, key: Key, id: number): boolean {
  for (let index = 0; index < dataset.length; index++) {
    const { ids, labels, truncated } = dataset.example(index);
    if (key === 'bos_token_id' ? ids[0] === id : truncated === 0 && labels[labels.length - 1] === id)
      return true;
  }
  return false;
}

function listed(id: number | undefined): number[] {
  return id === undefined ? [] : [id];
}

function shownIds(ids: readonly number[]): string {
  return ids.length === 0 ? 'none' : ids.join(', ');
}
