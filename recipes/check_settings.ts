import { existsSync, realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import type { z } from 'zod';
import { addon } from '../engine/device/addon.js';
import { environmentThreads } from '../engine/machine/threads.js';
import { llamaConfigKeys, parseLlamaConfig } from '../engine/model/config.js';
import { UserError } from '../errors.js';
import { foreignKey } from './foreign_keys.js';
import { expandHome } from './home.js';
import { nearest } from './nearest.js';
import { pathFault } from './path_fault.js';
import {
  EXISTING_PATHS,
  expects,
  type Key,
  type PlanConfig,
  type PlanSettings,
  type RunConfig,
  type Settings,
  schema,
} from './settings.js';
import { shown } from './words.js';

/**
 * Where settings stand, for messages: `run.yaml`, of a key `run.yaml:7`, of one within a mapping that of its line.
 * Those that a program makes stand nowhere.
 */
export type PlaceOf = (key?: string, inner?: string) => string | undefined;

/**
 * Checks all of a run's settings: keys, types, ranges, combinations, and that its inputs exist. Relative paths start
 * from the working directory, `~` is the home directory.
 *
 * @param checkPaths whether inputs (model, tokenizer, data) must exist
 * @returns the settings with defaults filled in. `tokenizer_name_or_path` falls back to `model_name_or_path`,
 *   `eval_steps` to `logging_steps`, `threads` to the environment's `TSTRAIN_NUM_THREADS`.
 * @throws UserError of all faults in the order of the keys, in a line each naming place and key
 */
export function checkSettings(
  settings: Settings,
  placeOf: PlaceOf = () => undefined,
  { checkPaths = true }: { checkPaths?: boolean } = {},
): RunConfig {
  return check(settings, placeOf, { checkPaths, runs: true }) as RunConfig;
}

/**
 * checkSettings() of what is only planned: its device need not be there, and there may be no data, and then no
 * output_dir either.
 */
export function checkPlanSettings(settings: PlanSettings, placeOf: PlaceOf = () => undefined): PlanConfig {
  return check(settings, placeOf, { checkPaths: true, runs: false });
}

function check(
  settings: PlanSettings,
  placeOf: PlaceOf,
  { checkPaths, runs }: { checkPaths: boolean; runs: boolean },
): PlanConfig {
  const faults: string[] = [];
  const at = (place: string | undefined, text: string) =>
    void faults.push(place === undefined ? text : `${place}: ${text}`);
  const wrong = (key: Key, text: string) => at(placeOf(key), `${key}: ${text}`);

  const given = new Map<string, unknown>();
  // What is right by itself, for the checks of one key against another.
  const valid: Partial<RunConfig> = {};
  for (const [key, value] of Object.entries(settings)) {
    if (value === undefined) continue;
    given.set(key, value);
    if (!isKey(key)) {
      at(placeOf(key), `unknown key "${key}"; ${foreignKey(key) ?? nearHint(key, KEYS)}`);
      continue;
    }
    if (value === null) {
      wrong(key, 'has no value; give it one or delete the line');
      continue;
    }
    try {
      if (typeof value === 'string' && (isInput(key) || key === 'output_dir'))
        given.set(key, expandHome(value));
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      wrong(key, error.message);
      continue;
    }
    const parsed = fieldOf(key).safeParse(given.get(key));
    if (parsed.success) Object.assign(valid, { [key]: parsed.data });
    else wrong(key, `expected ${expects(key)}, got ${shown(value)}${quotesHint(key, value)}`);
  }
  const withoutData = !runs && !given.has('data_path');
  for (const key of KEYS)
    if (
      !given.has(key) &&
      !(withoutData && Object.hasOwn(OF_DATA, key)) &&
      !fieldOf(key).safeParse(undefined).success
    )
      at(placeOf(), `${key} is missing; it is ${expects(key)}`);

  if (!given.has('model_name_or_path') && !given.has('model_config')) {
    at(
      placeOf(),
      'give model_name_or_path (a checkpoint to fine-tune) or model_config (a new model); both are missing',
    );
  }
  if (given.has('model_name_or_path') && given.has('model_config')) {
    const place = placeOf('model_name_or_path');
    wrong(
      'model_config',
      place === undefined
        ? 'excludes model_name_or_path; keep one of the two'
        : `excludes model_name_or_path (${place}); keep one of the two (--set model_config=null takes it out)`,
    );
  }
  if (valid.model_config !== undefined) faults.push(...modelConfigFaults(valid.model_config, placeOf));
  const { device } = valid;
  if (device !== undefined && device !== 'auto' && !addon.devices().includes(device)) {
    const [devices, missing] = [addon.devices().join(', '), addon.missing()[device]];
    if (runs || missing === undefined)
      wrong(
        'device',
        missing === undefined
          ? `"${device}" is not in this build, which has ${devices}; auto takes the best there is`
          : `${device} cannot be used: ${missing}; \`tstrain doctor\` tells more, and auto takes the best there is (${devices})`,
      );
  }
  const { eval_strategy: evaluates } = valid;
  if (evaluates !== undefined && evaluates !== 'no' && !given.has('eval_data_path'))
    wrong('eval_strategy', `${evaluates} needs eval_data_path, which is missing`);
  if (valid.gradient_dtype === 'bfloat16' && (valid.bf16 === false || !given.has('bf16')))
    wrong('gradient_dtype', 'bfloat16 needs bf16: true; set that too, or leave gradient_dtype at float32');
  const { output_dir, model_name_or_path } = valid;
  if (
    output_dir !== undefined &&
    model_name_or_path !== undefined &&
    isSameFile(output_dir, model_name_or_path)
  )
    wrong('output_dir', 'must not be model_name_or_path: the run would overwrite the model it starts from');
  if (checkPaths) {
    for (const key of given.keys()) {
      if (!isInput(key) || valid[key] === undefined) continue;
      const fault = pathFault(valid[key], EXISTING_PATHS[key]);
      if (fault) wrong(key, fault);
    }
  }
  if (faults.length > 0) throw new UserError(faults);

  const config = schema.partial(OF_DATA).parse(Object.fromEntries(given));
  config.tokenizer_name_or_path ??= config.model_name_or_path;
  if (config.eval_strategy === 'steps') config.eval_steps ??= config.logging_steps;
  config.threads ??= environmentThreads();
  return config;
}

/** What a plan can do without. */
const OF_DATA = { data_path: true, output_dir: true } as const;

const KEYS = Object.keys(schema.shape) as Key[];

function isKey(key: string): key is Key {
  return Object.hasOwn(schema.shape, key);
}

function fieldOf(key: Key): z.ZodType {
  return schema.shape[key];
}

function isInput(key: string): key is keyof typeof EXISTING_PATHS {
  return Object.hasOwn(EXISTING_PATHS, key);
}

function nearHint(key: string, names: readonly string[]): string {
  const near = nearest(key, names);
  return near === undefined ? 'no key has a name like it' : `did you mean "${near}"?`;
}

/** Unknown keys of a model_config, and what of it makes no model. */
function modelConfigFaults(modelConfig: Record<string, unknown>, placeOf: PlaceOf): string[] {
  const place = (key?: string) => {
    const where = placeOf('model_config', key);
    return where === undefined ? 'model_config' : `${where}: model_config`;
  };
  const known = llamaConfigKeys();
  const unknown = Object.keys(modelConfig)
    .filter((key) => !known.includes(key))
    .map((key) => `${place(key)}: unknown key "${key}"; ${nearHint(key, known)}`);
  try {
    parseLlamaConfig(modelConfig, place());
    return unknown;
  } catch (error) {
    if (error instanceof UserError) return [...unknown, ...error.faults];
    throw error;
  }
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
