import { z } from 'zod';
import { asJson } from '../errors.js';
import { compile } from './pattern.js';

const flags = {
  content: z.string().min(1),
  single_word: z.boolean().default(false),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  normalized: z.boolean().optional(),
  special: z.boolean().default(false),
};

const readToken = <T extends { special: boolean; normalized?: boolean | undefined }>({
  normalized,
  ...token
}: T) => ({
  ...token,
  normalized: normalized ?? !token.special,
});

const id = z.int().nonnegative();
const addedToken = z.object({ id, ...flags }).transform(readToken);
const addedTokenWithoutId = z.object(flags).transform(readToken);

/** A token that is found in the text before the text is taken apart. */
export type AddedToken = z.infer<typeof addedToken>;

/** The longest of known tokenizers has some hundred characters. */
const MOST_PATTERN = 10_000;
const pattern = z
  .union([z.object({ String: z.string().min(1) }), z.object({ Regex: z.string().min(1) })], {
    error: 'expected {"String": …} or {"Regex": …}',
  })
  // Compiled, one takes a hundred times its length.
  .refine((value) => Object.values(value)[0].length <= MOST_PATTERN, {
    error: `is a pattern of more than ${MOST_PATTERN} characters`,
    abort: true,
  })
  .transform((value, context) => {
    try {
      return compile(value);
    } catch (error) {
      context.addIssue({
        code: 'custom',
        message: `this regular expression is not supported: ${(error as Error).message}`,
      });
      return z.NEVER;
    }
  });

/** zod gathers the faults of all items, at a kilobyte each; here the first one ends it. */
function list<S extends z.ZodType>(item: S) {
  return z.array(z.unknown()).transform((value, context) => {
    const items: z.output<S>[] = [];
    return allOf(item, value.entries(), context, (_, each) => items.push(each)) ? items : z.NEVER;
  });
}

/** The same of an object's values, by their keys. */
function table<S extends z.ZodType>(item: S) {
  return z
    .custom<Record<string, unknown>>(isObject, 'expected an object')
    .transform((value, context): Map<string, z.output<S>> => {
      const items = new Map<string, z.output<S>>();
      const isRight = allOf(item, Object.entries(value), context, (key, each) => items.set(key, each));
      return isRight ? items : z.NEVER;
    });
}

function allOf<S extends z.ZodType, K extends string | number>(
  schema: S,
  entries: Iterable<[K, unknown]>,
  context: z.RefinementCtx,
  take: (key: K, item: z.output<S>) => void,
): boolean {
  for (const [key, value] of entries) {
    const { success, data, error } = schema.safeParse(value);
    if (!success) {
      const [{ path, message }] = error.issues;
      context.addIssue({ code: 'custom', message, path: [key, ...path] });
      return false;
    }
    take(key, data);
  }
  return true;
}

const step = <T extends string, S extends z.ZodRawShape>(type: T, shape: S) =>
  z.object({ type: z.literal(type), ...shape });

/** One step of a kind, of several that `Sequence` has under `key`, or none (null): always a list. */
function steps<S extends readonly [z.ZodObject, ...z.ZodObject[]]>(key: string, options: S) {
  const types = options.map(({ shape }) => (shape.type as z.ZodLiteral<string>).value);
  const flat = (value: unknown, depth: number): unknown[] => {
    const { type, [key]: inner } = (value ?? {}) as Record<string, unknown>;
    if (value == null) return [];
    return type === 'Sequence' && Array.isArray(inner) && depth < 8
      ? inner.flatMap((each) => flat(each, depth + 1))
      : [value];
  };
  const one = z.discriminatedUnion('type', options as unknown as [S[number], ...S[number][]], {
    error: ({ input }) =>
      `${asJson((input as { type?: unknown } | null)?.type)} is not supported (${types.join(', ')} are)`,
  });
  return z.preprocess((value) => flat(value, 0), list(one)) as unknown as z.ZodType<z.output<S[number]>[]>;
}

const normalizer = steps('normalizers', [
  step('Prepend', { prepend: z.string() }),
  step('Replace', { pattern, content: z.string() }),
  step('NFC', {}),
  step('NFD', {}),
  step('NFKC', {}),
  step('NFKD', {}),
  step('Lowercase', {}),
  step('Strip', { strip_left: z.boolean().default(true), strip_right: z.boolean().default(true) }),
]);
export type NormalizerStep = z.infer<typeof normalizer>[number];

const metaspace = {
  replacement: z.string().length(1).default('▁'),
  // The first form of this says add_prefix_space, the later one prepend_scheme and split.
  add_prefix_space: z.boolean().optional(),
  prepend_scheme: z.enum(['always', 'first', 'never']).optional(),
  split: z.boolean().default(true),
};
/** When a Metaspace puts its sign before a text, whichever form says so. */
export function prependScheme({
  prepend_scheme,
  add_prefix_space,
}: z.infer<z.ZodObject<typeof metaspace>>): 'always' | 'first' | 'never' {
  return prepend_scheme ?? (add_prefix_space === false ? 'never' : 'always');
}

const behavior = z.enum(['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous']);

const preTokenizer = steps('pretokenizers', [
  step('Metaspace', metaspace),
  step('ByteLevel', { add_prefix_space: z.boolean().default(true), use_regex: z.boolean().default(true) }),
  step('Split', { pattern, behavior, invert: z.boolean().default(false) }),
  step('Digits', { individual_digits: z.boolean().default(false) }),
  step('Punctuation', { behavior: behavior.default('Isolated') }),
  step('Whitespace', {}),
  step('WhitespaceSplit', {}),
]);
export type PreTokenizerStep = z.infer<typeof preTokenizer>[number];

const decoder = steps('decoders', [
  step('Replace', { pattern, content: z.string() }),
  step('ByteFallback', {}),
  step('Fuse', {}),
  step('Strip', { content: z.string().length(1), start: z.int().nonnegative(), stop: z.int().nonnegative() }),
  step('Metaspace', metaspace),
  step('ByteLevel', {}),
]).refine((list) => list.length > 0, 'missing; {"type": "Fuse"} joins the tokens as they are');
export type DecoderStep = z.infer<typeof decoder>[number];

const pair = z.tuple([z.string(), id]);
const postProcessor = steps('processors', [
  step('TemplateProcessing', {
    single: list(z.object({ SpecialToken: z.object({ id: z.string() }).optional() })),
    special_tokens: table(z.object({ ids: list(id) })).default(new Map()),
  }),
  step('ByteLevel', {}),
  step('BertProcessing', { sep: pair, cls: pair }),
  step('RobertaProcessing', { sep: pair, cls: pair }),
]);
export type PostProcessorStep = z.infer<typeof postProcessor>[number];

/** Twice those of the largest vocabularies. A piece takes some 500 bytes until all is read. */
const MOST_PIECES = 2 ** 19;
const tooMany = (count: number) => `has ${count} pieces, expected are at most ${MOST_PIECES}`;

/** An object of whole numbers, kept as a Map: a token may have the name of anything, `__proto__` included. */
const vocabulary = z
  .custom<Record<string, number>>(isObject, 'expected an object from tokens to ids')
  .transform((value, context) => {
    const refuse = (message: string) => {
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    };
    const tokens = Object.keys(value);
    if (tokens.length > MOST_PIECES) return refuse(tooMany(tokens.length));
    const wrong = tokens.find((token) => !Number.isSafeInteger(value[token]) || value[token] < 0);
    if (wrong !== undefined) return refuse(`${JSON.stringify(wrong)} has no whole number as its id`);
    return new Map(Object.entries(value));
  });

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const absent = (key: string) => z.union([z.null(), z.literal('')], `${key} is not supported`).optional();

const bpe = z.object({
  type: z.literal('BPE'),
  dropout: z.literal([0, null], 'BPE dropout is not supported').optional(),
  unk_token: z.string().nullish(),
  continuing_subword_prefix: absent('continuing_subword_prefix'),
  end_of_word_suffix: absent('end_of_word_suffix'),
  fuse_unk: z.boolean().default(false),
  byte_fallback: z.boolean().default(false),
  ignore_merges: z.boolean().default(false),
  vocab: vocabulary,
  // One string with a space between them, or a pair: looked at one by one in definition.ts, for there are many.
  merges: z.array(z.unknown()),
});

const unigram = z
  .object({
    type: z.literal('Unigram'),
    unk_id: id.nullish(),
    byte_fallback: z.boolean().default(false),
    vocab: z
      .array(z.unknown())
      .min(1)
      .max(MOST_PIECES, { error: ({ input }) => tooMany((input as unknown[]).length), abort: true })
      .pipe(list(z.tuple([z.string(), z.number()]))),
  })
  .transform((model) => ({
    ...model,
    scores: model.vocab,
    vocab: new Map(model.vocab.map(([piece], i) => [piece, i])),
  }));

/** `tokenizer.json` as far as it is supported: other forms are refused, unknown keys are dropped. */
export const tokenizerJson = z.object({
  added_tokens: list(addedToken)
    .nullish()
    .transform((tokens) => tokens ?? []),
  normalizer,
  pre_tokenizer: preTokenizer,
  // Without one, transformers makes one for the classes of tokenizers that it knows.
  post_processor: z.preprocess((value) => value ?? undefined, postProcessor.optional()),
  decoder,
  // Files of the first years do not say the type.
  model: z.preprocess(
    (model) =>
      isObject(model) && !('type' in (model as object)) ? { type: 'BPE', ...(model as object) } : model,
    z.discriminatedUnion('type', [bpe, unigram], {
      error: ({ input }) =>
        `${asJson((input as { type?: unknown } | null)?.type)} is not supported (BPE, Unigram are)`,
    }),
  ),
});
export type TokenizerJson = z.infer<typeof tokenizerJson>;

const named = z.union([z.string(), z.object({ content: z.string() }).transform(({ content }) => content)]);
const orNone = named.nullish().transform((name) => (name === '' ? null : name));
const namedList = z.array(named).nullish();

const namedTokens = {
  bos_token: orNone,
  eos_token: orNone,
  unk_token: orNone,
  additional_special_tokens: namedList,
  // A list in transformers 5; its object of names for other purposes adds nothing that a text model uses.
  extra_special_tokens: namedList.catch(undefined),
};

/** The keys of `tokenizer_config.json` that decide ids. */
export const tokenizerConfig = z.object({
  ...namedTokens,
  add_bos_token: z.boolean().nullish(),
  add_eos_token: z.boolean().nullish(),
  added_tokens_decoder: z.record(z.string().regex(/^\d+$/, 'expected an id'), addedTokenWithoutId).optional(),
  tokenizer_class: z.string().nullish(),
});
export type TokenizerConfig = z.infer<typeof tokenizerConfig>;

/** The keys of `special_tokens_map.json` that decide ids. */
export const specialTokensMap = z.object(namedTokens);

/** `added_tokens.json`: from tokens to ids. */
export const addedTokens = vocabulary;
