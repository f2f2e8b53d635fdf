import { existsSync, realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { addon } from '../engine/device/addon.js';
import { environmentThreads } from '../engine/machine/threads.js';
import { llamaConfigKeys, parseLlamaConfig } from '../engine/model/config.js';
import { UserError } from '../errors.js';
import { nearest } from './nearest.js';
import { pathFault } from './path_fault.js';
import { EXISTING_PATHS, expects, type Key, type RunConfig, type Settings, schema } from './settings.js';
import { shown } from './words.js';

/**
 * Where settings stand, for messages: `run.yaml`, of a key `run.yaml:7`, of one within a mapping that of its line.
 * Those that a program makes stand nowhere.
 */
export type PlaceOf = (key?: string, inner?: string) => string | undefined;

/**
 * Checks all of a run's settings: keys, types, ranges, combinations, and that its inputs exist. Relative paths start
 * from the working directory.
 *
 * @param checkPaths whether inputs (model, tokenizer, data) must exist
 * @returns the settings with defaults filled in. `tokenizer_name_or_path` falls back to `model_name_or_path`,
 *   `eval_steps` to `logging_steps`, `threads` to the environment's `TSTRAIN_NUM_THREADS`.
 * @throws UserError for the first fault in the order of the keys, in one line naming place and key
 */
export function checkSettings(
  settings: Settings,
  placeOf: PlaceOf = () => undefined,
  { checkPaths = true }: { checkPaths?: boolean } = {},
): RunConfig {
  const at = (place: string | undefined, text: string) =>
    new UserError(place === undefined ? text : `${place}: ${text}`);
  const fail = (key: Key, text: string) => at(placeOf(key), `${key}: ${text}`);
  const missing = (text: string) => at(placeOf(), text);

  const given = Object.entries(settings).filter(([, value]) => value !== undefined);
  const names = Object.keys(schema.shape);
  const parsed = schema.safeParse(Object.fromEntries(given));
  if (!parsed.success) {
    const wrong = new Set(parsed.error.issues.map((issue) => issue.path[0] as Key));
    for (const [key, value] of given) {
      if (!names.includes(key))
        throw at(placeOf(key), `unknown key "${key}"; did you mean "${nearest(key, names)}"?`);
      if (wrong.has(key as Key))
        throw fail(
          key as Key,
          `expected ${expects(key as Key)}, got ${shown(value)}${quotesHint(key as Key, value)}`,
        );
    }
    const [key] = wrong;
    throw missing(`${key} is missing; it is ${expects(key)}`);
  }
  const config = parsed.data;

  if (config.model_name_or_path === undefined && config.model_config === undefined) {
    throw missing(
      'give model_name_or_path (a checkpoint to fine-tune) or model_config (a new model); both are missing',
    );
  }
  if (config.model_name_or_path !== undefined && config.model_config !== undefined) {
    const place = placeOf('model_name_or_path');
    throw fail(
      'model_config',
      place === undefined
        ? 'excludes model_name_or_path; keep one of the two'
        : `excludes model_name_or_path (${place}); keep one of the two (--set model_config=null takes it out)`,
    );
  }
  if (config.model_config !== undefined) {
    const known = llamaConfigKeys();
    for (const key of Object.keys(config.model_config))
      if (!known.includes(key))
        throw at(
          placeOf('model_config', key),
          `model_config: unknown key "${key}"; did you mean "${nearest(key, known)}"?`,
        );
    const place = placeOf('model_config');
    parseLlamaConfig(config.model_config, place === undefined ? 'model_config' : `${place}: model_config`);
  }
  if (config.device !== 'auto' && !addon.devices().includes(config.device)) {
    const devices = addon.devices().join(', ');
    throw fail(
      'device',
      `"${config.device}" is not in this build, which has ${devices}; auto takes the best there is`,
    );
  }
  if (config.eval_strategy !== 'no' && config.eval_data_path === undefined) {
    throw fail('eval_strategy', `${config.eval_strategy} needs eval_data_path, which is missing`);
  }
  if (config.model_name_or_path !== undefined && isSameFile(config.output_dir, config.model_name_or_path)) {
    throw fail(
      'output_dir',
      'must not be model_name_or_path: the run would overwrite the model it starts from',
    );
  }
  if (checkPaths) {
    for (const [key] of given) {
      const kind = EXISTING_PATHS[key as keyof typeof EXISTING_PATHS];
      if (kind === undefined) continue;
      const fault = pathFault(config[key as keyof typeof EXISTING_PATHS]!, kind);
      if (fault) throw fail(key as Key, fault);
    }
  }

  config.tokenizer_name_or_path ??= config.model_name_or_path;
  if (config.eval_strategy === 'steps') config.eval_steps ??= config.logging_steps;
  config.threads ??= environmentThreads();
  return config;
}

/** Whether two paths lead to one file or directory, through links too. */
function isSameFile(a: string, b: string): boolean {
  const [first, second] = [a, b].map((path) => (existsSync(path) ? realpathSync(path) : resolve(path)));
  return first === second;
}

/** Of a number in quotes, which YAML reads as a text. */
function quotesHint(key: Key, value: unknown): string {
  const isNumber = typeof value === 'string' && value.trim() !== '' && Number.isFinite(Number(value));
  return isNumber && expects(key).includes('number') ? ', a text (leave out the quotes)' : '';
}
