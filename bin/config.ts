import { readFileSync, statSync } from 'node:fs';
import {
  type Document,
  type DocumentOptions,
  isMap,
  isScalar,
  Lexer,
  LineCounter,
  type ParseOptions,
  parseDocument,
  type SchemaOptions,
} from 'yaml';
import { llamaConfigKeys } from '../engine/model/config.js';
import { checkDepth, reasonOf, UserError } from '../errors.js';
import { checkPlanSettings, checkSettings, type PlaceOf } from '../recipes/check_settings.js';
import { pathFault } from '../recipes/path_fault.js';
import { type Key, type PlanConfig, type RunConfig, type Settings, schema } from '../recipes/settings.js';
import { shown } from '../recipes/words.js';

const MODEL_CONFIG = 'model_config' satisfies Key;

/**
 * Reads a run's YAML file and checks all of it (see checkSettings).
 *
 * @param file path of the YAML file
 * @param overrides `key=value` each, from `--set`; the value is read as YAML, the last of a key wins, and
 *   `key=null` takes the key out of the file
 * @returns the settings with defaults filled in
 * @throws UserError of all faults, in a line each naming file or option, line and key
 */
export function loadConfig(
  file: string,
  overrides: readonly string[] = [],
  options: { checkPaths?: boolean } = {},
): RunConfig {
  return load(file, overrides, (settings, placeOf) => checkSettings(settings, placeOf, options));
}

/** loadConfig() of what is only planned (see checkPlanSettings); without a file all keys are overrides. */
export function loadPlanConfig(file: string | undefined, overrides: readonly string[]): PlanConfig {
  return load(file, overrides, checkPlanSettings);
}

function load<Config>(
  file: string | undefined,
  overrides: readonly string[],
  check: (settings: Settings, placeOf: PlaceOf) => Config,
): Config {
  const entries = file === undefined ? new Map<string, Entry>() : readEntries(file);
  const faults: string[] = [];
  const gather = <T>(check: () => T): T | undefined => {
    try {
      return check();
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      faults.push(...error.faults);
      return undefined;
    }
  };
  for (const override of overrides) gather(() => applyOverride(entries, override));
  const settings = Object.fromEntries([...entries].map(([key, { value }]) => [key, value]));
  const config = gather(() =>
    check(
      // Whatever the file says; its types are checked like everything else.
      settings as Settings,
      (key, inner) => {
        const entry = key === undefined ? undefined : entries.get(key);
        return (inner === undefined ? undefined : entry?.inner?.get(inner)) ?? entry?.where ?? file;
      },
    ),
  );
  if (config === undefined || faults.length > 0) throw new UserError(faults);
  return config;
}

/** Reading YAML takes some 500 times its bytes, and a time that grows as the square of a mapping's keys. */
const MOST_BYTES = 2 ** 16;

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
    const { size } = statSync(file);
    if (size > MOST_BYTES)
      throw new UserError(`${file}: has ${size} bytes, the settings of a run at most ${MOST_BYTES}`);
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${file}: ${pathFault(file, 'file') ?? `cannot be read: ${reasonOf(error)}`}`);
  }
  const lines = new LineCounter();
  const document = parse(text, file, { lineCounter: lines, stringKeys: true });
  const at = (offset: number) => `${file}:${lines.linePos(offset).line}`;

  const [error] = document.errors;
  if (error?.code === 'DUPLICATE_KEY') {
    const duplicates = document.errors.filter(({ code }) => code === 'DUPLICATE_KEY');
    throw new UserError(
      duplicates.map(({ pos: [start] }) => {
        const word = /[^\s:]*/.exec(text.slice(start))![0];
        return `${at(start)}: duplicate key "${word}"; keep one of them`;
      }),
    );
  }
  // What follows on an error of the syntax may follow from it.
  if (error) throw new UserError(`${at(error.pos[0])}: not valid YAML: ${error.message}`);
  if (!isMap(document.contents)) {
    throw new UserError(`${file}: expected "key: value" lines, got ${shown(plain(document, file))}`);
  }

  const entries = new Map<string, Entry>();
  const values = plain(document, file) as Record<string, unknown>;
  for (const { key, value } of document.contents.items) {
    if (!isScalar(key)) continue;
    const name = String(key.value);
    entries.set(name, { value: values[name], where: at(key.range![0]), inner: innerWheres(value, at) });
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
  const value = optionValue(text, where);
  const innerKey = key.startsWith(`${MODEL_CONFIG}.`) ? key.slice(MODEL_CONFIG.length + 1) : undefined;
  if (innerKey !== undefined) applyInner(entries, innerKey, value, where);
  // An unknown key is kept, so that it is refused like one in the file.
  else if (value === null && Object.hasOwn(schema.shape, key)) entries.delete(key);
  else entries.set(key, { value, where });
}

function optionValue(text: string, where: string): unknown {
  // What would be a comment in a file is meant on a command line.
  if ([...new Lexer().lex(text)].some((lexeme) => lexeme.startsWith('#'))) return text.trim();
  const document = parse(text, where);
  if (document.errors.length > 0)
    throw new UserError(`${where}: not valid YAML: ${document.errors[0].message}`);
  return plain(document, where);
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

function parse(text: string, where: string, options: ParseOptions & DocumentOptions & SchemaOptions = {}) {
  const tooDeep = new UserError(`${where}: is nested too deeply`);
  try {
    const document = parseDocument(text, { prettyErrors: false, ...options });
    // The stack ended while a node was composed.
    if (document.errors.some(({ code }) => code === 'RESOURCE_EXHAUSTION')) throw tooDeep;
    return document;
  } catch (error) {
    throw error instanceof RangeError ? tooDeep : error;
  }
}

function plain(document: Document, where: string): unknown {
  try {
    const value = document.toJS();
    checkDepth(value, where);
    return value;
  } catch (error) {
    if (error instanceof UserError) throw error;
    // An alias (*name) without its anchor shows only here.
    throw new UserError(`${where}: not valid YAML: ${(error as Error).message}`);
  }
}
