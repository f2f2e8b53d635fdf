import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Document, isMap, isScalar, LineCounter, parseDocument, stringify } from 'yaml';
import { environmentThreads } from '../engine/machine/threads.js';
import { llamaConfigKeys, parseLlamaConfig } from '../engine/model/config.js';
import { UserError } from '../errors.js';
import { nearest } from './config/nearest.js';
import { EXISTING_PATHS, expects, type Key, type RunConfig, schema } from './config/schema.js';
import { pathFault } from './path_fault.js';

export type { RunConfig };

const MODEL_CONFIG = 'model_config' satisfies Key;

/**
 * Reads a run's YAML file and checks all of it: keys, types, ranges, combinations, and that its inputs exist.
 *
 * @param file path of the YAML file
 * @param overrides `key=value` each, from `--set`; the value is read as YAML, the last of a key wins, and
 *   `key=null` takes the key out of the file
 * @param checkPaths whether inputs (model, tokenizer, data) must exist; relative paths start from the working
 *   directory
 * @returns the settings with defaults filled in. `tokenizer_name_or_path` falls back to `model_name_or_path`,
 *   `eval_steps` to `logging_steps`, `threads` to the environment's `TSTRAIN_NUM_THREADS`.
 * @throws UserError for the first fault in the order of the file, in one line naming file, line and key
 */
export function loadConfig(
  file: string,
  overrides: readonly string[] = [],
  { checkPaths = true }: { checkPaths?: boolean } = {},
): RunConfig {
  const entries = readEntries(file);
  for (const override of overrides) applyOverride(entries, override);

  const fail = (key: Key, text: string) =>
    new UserError(`${entries.get(key)?.where ?? file}: ${key}: ${text}`);
  const missing = (text: string) => new UserError(`${file}: ${text}`);

  const names = Object.keys(schema.shape);
  const parsed = schema.safeParse(Object.fromEntries([...entries].map(([key, { value }]) => [key, value])));
  if (!parsed.success) {
    const wrong = new Set(parsed.error.issues.map((issue) => issue.path[0] as Key));
    for (const [key, { value, where }] of entries) {
      if (!names.includes(key))
        throw new UserError(`${where}: unknown key "${key}"; did you mean "${nearest(key, names)}"?`);
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
    throw fail(
      'model_config',
      `excludes model_name_or_path (${entries.get('model_name_or_path')?.where}); keep one of the two ` +
        '(--set model_config=null takes it out)',
    );
  }
  if (config.model_config !== undefined) {
    const { where, inner } = entries.get(MODEL_CONFIG)!;
    const known = llamaConfigKeys();
    for (const key of Object.keys(config.model_config))
      if (!known.includes(key))
        throw new UserError(
          `${inner?.get(key) ?? where}: ${MODEL_CONFIG}: unknown key "${key}"; did you mean "${nearest(key, known)}"?`,
        );
    parseLlamaConfig(config.model_config, `${where}: ${MODEL_CONFIG}`);
  }
  if (config.device === 'cuda')
    throw fail('device', 'cuda is not in this version; cpu (or auto, which means cpu here) is');
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
    for (const key of entries.keys()) {
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

/** A run's settings as YAML text that `loadConfig` reads back to the same settings. */
export function renderConfig(config: RunConfig): string {
  return stringify(config, { lineWidth: 0, keepUndefined: false });
}

interface Entry {
  value: unknown;
  /** Where the value was given: `run.yaml:7` or `--set key=value`. */
  where: string;
  /** The same of each key of a mapping. */
  inner?: Map<string, string>;
}

function readEntries(file: string): Map<string, Entry> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new UserError(`${file}: ${pathFault(file, 'file') ?? (error as Error).message}`);
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, stringKeys: true });
  const at = (offset: number) => `${file}:${lines.linePos(offset).line}`;

  const [error] = document.errors;
  if (error?.code === 'DUPLICATE_KEY') {
    const word = /[^\s:]*/.exec(text.slice(error.pos[0]))![0];
    throw new UserError(`${at(error.pos[0])}: duplicate key "${word}"; keep one of them`);
  }
  if (error) throw new UserError(`${at(error.pos[0])}: not valid YAML: ${error.message}`);
  if (!isMap(document.contents)) {
    throw new UserError(`${file}: expected "key: value" lines, got ${shown(plain(document, file))}`);
  }

  const entries = new Map<string, Entry>();
  const values = plain(document, file) as Record<string, unknown>;
  for (const { key, value } of document.contents.items) {
    if (!isScalar(key)) continue;
    const name = String(key.value);
    const where = at(key.range![0]);
    if (values[name] === null) {
      throw new UserError(`${where}: ${name}: has no value; give it one or delete the line`);
    }
    entries.set(name, { value: values[name], where, inner: innerWheres(value, at) });
  }
  return entries;
}

function innerWheres(value: unknown, at: (offset: number) => string): Map<string, string> | undefined {
  if (!isMap(value)) return undefined;
  return new Map(
    value.items.flatMap(({ key }) => (isScalar(key) ? [[String(key.value), at(key.range![0])]] : [])),
  );
}

function applyOverride(entries: Map<string, Entry>, override: string): void {
  const where = `--set ${override}`;
  const split = override.indexOf('=');
  if (split < 1) throw new UserError(`${where}: expected key=value`);
  const key = override.slice(0, split);
  const text = override.slice(split + 1);
  if (text.trim() === '') throw new UserError(`${where}: ${key}: has no value; ${key}=null takes it out`);
  const document = parseDocument(text, { prettyErrors: false });
  if (document.errors.length > 0) {
    throw new UserError(`${where}: not valid YAML: ${document.errors[0].message}`);
  }
  const value = plain(document, where);
  const innerKey = key.startsWith(`${MODEL_CONFIG}.`) ? key.slice(MODEL_CONFIG.length + 1) : undefined;
  if (innerKey !== undefined) applyInner(entries, innerKey, value, where);
  // An unknown key is kept, so that it is refused like one in the file.
  else if (value === null && Object.hasOwn(schema.shape, key)) entries.delete(key);
  else entries.set(key, { value, where });
}

/** `model_config.key=value` changes one key of the mapping. */
function applyInner(entries: Map<string, Entry>, key: string, value: unknown, where: string): void {
  const { value: mapping, inner } = entries.get(MODEL_CONFIG) ?? { value: {}, inner: undefined };
  if (typeof mapping !== 'object' || mapping === null || Array.isArray(mapping)) return;
  // An unknown key is kept, so that it is refused like one in the file.
  const isTakenOut = value === null && llamaConfigKeys().includes(key);
  const { [key]: _, ...others } = mapping as Record<string, unknown>;
  entries.set(MODEL_CONFIG, {
    value: isTakenOut ? others : { ...others, [key]: value },
    where: entries.get(MODEL_CONFIG)?.where ?? where,
    inner: new Map([...(inner ?? []), [key, where]]),
  });
}

function plain(document: Document, where: string): unknown {
  try {
    return document.toJS();
  } catch (error) {
    // An alias (*name) without its anchor shows only here.
    throw new UserError(`${where}: not valid YAML: ${(error as Error).message}`);
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

function shown(value: unknown): string {
  const text = typeof value === 'number' ? String(value) : JSON.stringify(value);
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}
