import { join } from 'node:path';
import type { z } from 'zod';
import { UserError } from '../errors.js';
import { parseJson } from '../files.js';
import type { TokenizerFiles } from './files.js';
import {
  type AddedToken,
  addedTokens,
  type PostProcessorStep,
  specialTokensMap,
  type TokenizerConfig,
  type TokenizerJson,
  tokenizerConfig,
  tokenizerJson,
} from './schema.js';

/** What the files of a tokenizer directory say together, checked, with the forms that differ between versions made one. */
export interface Definition {
  json: TokenizerJson;
  /** Left and right part of every merge, best first; none of a Unigram model. */
  merges: [string, string][];
  /** Of all files, BOS and EOS among them. */
  addedTokens: AddedToken[];
  bosId: number | undefined;
  eosId: number | undefined;
  /** What the tokenizer puts before and after a text when asked for special tokens. */
  prefix: readonly number[];
  suffix: readonly number[];
}

/** 262,000 pieces and 580,000 merges, as pairs, are 2.3 million. */
const MOST_VALUES = 2_500_000;

/** The token that stands for one byte where the vocabulary has no piece, such as `<0x0A>`. */
export function byteToken(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
}

/**
 * What the files of a directory say, read together as transformers reads them.
 * @throws UserError naming the file and the key, both files where they contradict each other: missing, not JSON, or
 * asking for something unsupported
 */
export function definitionOf(directory: string, files: TokenizerFiles): Definition {
  const read = <T extends z.ZodType>(name: string, schema: T, mostValues?: number) => {
    const bytes = files.get(name);
    return bytes && parse(join(directory, name), bytes, schema, mostValues);
  };
  const file = join(directory, 'tokenizer.json');
  const json = read('tokenizer.json', tokenizerJson, MOST_VALUES);
  if (json === undefined) {
    const hint = files.has('tokenizer.model')
      ? '; tokenizer.model alone is not read. Hugging Face transformers makes tokenizer.json of it: python -c "from ' +
        `transformers import AutoTokenizer; AutoTokenizer.from_pretrained('${directory}').save_pretrained('${directory}')"`
      : '';
    throw new UserError(`${file}: no such file${hint}`);
  }
  const config: TokenizerConfig = read('tokenizer_config.json', tokenizerConfig) ?? tokenizerConfig.parse({});
  // Where tokenizer_config.json lists the added tokens, the files of older versions are not looked at.
  const old = config.added_tokens_decoder === undefined;
  const names = { ...config, ...(old ? given(read('special_tokens_map.json', specialTokensMap)) : {}) };
  const namesFile = (key: keyof typeof names) =>
    join(directory, names[key] === config[key] ? 'tokenizer_config.json' : 'special_tokens_map.json');

  const tokens = new TokenList(file, json);
  if (old) {
    const added = [...(read('added_tokens.json', addedTokens) ?? [])].sort(([, a], [, b]) => a - b);
    const special = new Set(specialNames(names));
    for (const [content, id] of added)
      if (!tokens.has(content) || tokens.idOf(content) !== id)
        tokens.add(join(directory, 'added_tokens.json'), { ...plain(content, special.has(content)), id });
  } else {
    const listed = Object.entries(config.added_tokens_decoder!).map(([id, token]) => ({
      ...token,
      id: Number(id),
    }));
    for (const token of listed) tokens.add(join(directory, 'tokenizer_config.json'), token);
  }
  for (const content of [...(names.additional_special_tokens ?? []), ...(names.extra_special_tokens ?? [])])
    tokens.addNamed(content);

  const merges = json.model.type === 'BPE' ? readMerges(file, json.model) : [];
  checkUnknown(file, json);
  const special = (key: 'bos_token' | 'eos_token', standard: string): number | undefined => {
    const name = names[key];
    if (name === null) return undefined;
    const content = name ?? standard;
    if (tokens.idOf(content) !== undefined) return tokens.addNamed(content);
    if (name === undefined) return undefined;
    throw new UserError(`${namesFile(key)}: ${key} is ${JSON.stringify(content)}, which ${file} has not`);
  };
  const bosId = special('bos_token', '<s>');
  const eosId = special('eos_token', '</s>');
  const around = readTemplate(file, json.post_processor);
  // The LLaMA tokenizer's own default, where no file says anything else.
  const llama = /^(Llama|CodeLlama)Tokenizer/.test(config.tokenizer_class ?? 'LlamaTokenizer');
  return {
    json,
    merges,
    addedTokens: tokens.added,
    bosId,
    eosId,
    prefix: withOrWithout(around?.before, bosId, config.add_bos_token, llama),
    suffix: withOrWithout(around?.after, eosId, config.add_eos_token, false),
  };
}

function parse<T extends z.ZodType>(
  file: string,
  bytes: Uint8Array,
  schema: T,
  mostValues?: number,
): z.infer<T> {
  const result = schema.safeParse(parseJson(bytes, file, mostValues));
  if (result.success) return result.data;
  const { path, message } = result.error.issues[0];
  const instead = message.includes('not supported')
    ? '; rows of token ids need no tokenizer: {"ids": [...], "labels": [...]}'
    : '';
  throw new UserError(`${file}: ${path.join('.') || 'the file'}: ${message}${instead}`);
}

/** The keys of an object that have a value. */
function given<T extends object>(values: T | undefined): Partial<T> {
  const entries = Object.entries(values ?? {}).filter(([, value]) => value != null);
  return Object.fromEntries(entries) as Partial<T>;
}

const plain = (content: string, special: boolean) => ({
  content,
  special,
  normalized: !special,
  single_word: false,
  lstrip: false,
  rstrip: false,
});

/** The added tokens of all files: each new one takes the next id, as it does in `tokenizers`. */
class TokenList {
  private readonly tokens = new Map<string, AddedToken>();
  /** Token → id, added ones included. */
  private readonly ids: Map<string, number>;
  private next: number;

  constructor(
    private readonly file: string,
    { model, added_tokens }: TokenizerJson,
  ) {
    this.ids = new Map(model.vocab);
    const byId = new Map<number, string>();
    this.next = 0;
    const take = (content: string, id: number) => {
      const other = byId.get(id);
      if (other !== undefined && other !== content)
        throw new UserError(
          `${file}: id ${id} is both ${JSON.stringify(other)} and ${JSON.stringify(content)}`,
        );
      byId.set(id, content);
      this.next = Math.max(this.next, id + 1);
    };
    for (const [content, id] of this.ids) take(content, id);
    for (const token of added_tokens) {
      const { content, id } = token;
      const known = this.ids.get(content);
      if (known !== undefined && known !== id)
        throw new UserError(`${file}: ${JSON.stringify(content)} has two ids, ${known} and ${id}`);
      take(content, id);
      this.ids.set(content, id);
      this.tokens.set(content, token);
    }
  }

  get added(): AddedToken[] {
    return [...this.tokens.values()];
  }

  idOf(content: string): number | undefined {
    return this.ids.get(content);
  }

  has(content: string): boolean {
    return this.tokens.has(content);
  }

  /** A token of another file: its flags count. @throws UserError when it says another id than tokenizer.json gives it */
  add(source: string, token: AddedToken): void {
    const known = this.ids.get(token.content);
    const id = known ?? this.next;
    if (id !== token.id)
      throw new UserError(
        `${source}: ${JSON.stringify(token.content)} has the id ${token.id}; in ${this.file} ` +
          (known === undefined ? `the next free id is ${id}` : `it has ${id}`) +
          '. The files belong to different tokenizers: save them together anew, or remove the one that is out of date',
      );
    this.put(token);
  }

  /** A token that is named for a purpose is special, whether and however a file lists it. @returns its id */
  addNamed(content: string): number {
    const listed = this.tokens.get(content);
    const id = listed?.id ?? this.ids.get(content) ?? this.next;
    this.put({ ...(listed ?? plain(content, true)), id, special: true });
    return id;
  }

  private put(token: AddedToken): void {
    this.ids.set(token.content, token.id);
    this.tokens.set(token.content, token);
    this.next = Math.max(this.next, token.id + 1);
  }
}

function specialNames(names: Partial<TokenizerConfig>): string[] {
  const { bos_token, eos_token, unk_token, additional_special_tokens, extra_special_tokens } = names;
  return [bos_token, eos_token, unk_token, additional_special_tokens, extra_special_tokens]
    .flat()
    .filter((name) => name != null);
}

/** Merges come as "left right" or as pairs. */
function readMerges(file: string, model: TokenizerJson['model'] & { type: 'BPE' }): [string, string][] {
  return model.merges.map((merge, rank) => {
    const parts = typeof merge === 'string' ? merge.split(' ') : merge;
    if (
      !Array.isArray(parts) ||
      parts.length !== 2 ||
      parts.some((part) => typeof part !== 'string' || part === '')
    )
      throw new UserError(`${file}: model.merges[${rank}] is not two pieces: ${JSON.stringify(merge)}`);
    const [left, right] = parts as [string, string];
    for (const piece of [left, right, left + right])
      if (!model.vocab.has(piece))
        throw new UserError(
          `${file}: model.merges[${rank}] needs ${JSON.stringify(piece)}, which model.vocab has not`,
        );
    return [left, right];
  });
}

/** Every character must become something: its bytes, or the unknown token. */
function checkUnknown(file: string, { model, pre_tokenizer }: TokenizerJson): void {
  if (model.type === 'Unigram') {
    if (model.unk_id != null && model.unk_id < model.scores.length) return;
    throw new UserError(
      `${file}: model.unk_id is ${model.unk_id ?? 'missing'}; it must be an id of model.vocab`,
    );
  }
  if (model.unk_token != null) {
    if (model.vocab.has(model.unk_token)) return;
    throw new UserError(
      `${file}: model.unk_token is ${JSON.stringify(model.unk_token)}, which model.vocab has not`,
    );
  }
  // In a byte-level vocabulary a byte without a token vanishes, as in `tokenizers`: SmolLM2's has none for some
  // control characters.
  if (pre_tokenizer.some(({ type }) => type === 'ByteLevel')) return;
  const bytes = Array.from({ length: 256 }, (_, byte) => byteToken(byte));
  if (!model.byte_fallback || !bytes.every((token) => model.vocab.has(token)))
    throw new UserError(
      `${file}: model.unk_token is needed, since model.vocab has no token for some characters`,
    );
}

/** The ids that a post-processor puts before and after a single text; undefined where there is none. */
function readTemplate(
  file: string,
  steps: readonly PostProcessorStep[] | undefined,
): { before: number[]; after: number[] } | undefined {
  if (steps === undefined) return undefined;
  const around = { before: [] as number[], after: [] as number[] };
  for (const step of steps) {
    if (step.type === 'BertProcessing' || step.type === 'RobertaProcessing') {
      around.before.unshift(step.cls[1]);
      around.after.push(step.sep[1]);
    }
    if (step.type !== 'TemplateProcessing') continue;
    const at = step.single.findIndex(({ SpecialToken }) => SpecialToken === undefined);
    const idsOf = (parts: typeof step.single) =>
      parts.flatMap(({ SpecialToken }) => {
        if (SpecialToken === undefined) return [];
        const ids = step.special_tokens.get(SpecialToken.id)?.ids;
        if (ids) return ids;
        throw new UserError(
          `${file}: post_processor: special_tokens says nothing of ${JSON.stringify(SpecialToken.id)}`,
        );
      });
    around.before.unshift(...idsOf(step.single.slice(0, at)));
    around.after.push(...idsOf(step.single.slice(at)));
  }
  return around;
}

/** `ids` of a template, or `id` alone where there is none; add_bos_token or add_eos_token has the last word. */
function withOrWithout(
  ids: readonly number[] | undefined,
  id: number | undefined,
  flag: boolean | null | undefined,
  standard: boolean,
): readonly number[] {
  const named = id === undefined ? [] : [id];
  if (flag != null) return flag ? named : [];
  return ids ?? (standard ? named : []);
}
