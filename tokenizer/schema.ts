import { z } from 'zod';

const addedToken = z.object({
  id: z.int().nonnegative(),
  content: z.string().min(1),
  single_word: z.literal(false, 'single_word: true is not supported').optional(),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  special: z.boolean().default(false),
});

/** A token that is matched in the raw text, before anything else happens to it. */
export type AddedToken = z.infer<typeof addedToken>;

const replace = z.object({
  type: z.literal('Replace'),
  pattern: z.object({ String: z.string('expected a string (regular expressions are not supported)') }),
  content: z.string(),
});

const normalizerStep = z.discriminatedUnion('type', [
  z.object({ type: z.literal('Prepend'), prepend: z.string() }),
  z.object({ type: z.literal('NFC') }),
  z.object({ type: z.literal('NFKC') }),
  replace,
]);

const metaspace = z
  .object({
    type: z.literal('Metaspace'),
    replacement: z.string().length(1),
    // The first form of this says add_prefix_space, the later one prepend_scheme and split.
    add_prefix_space: z.boolean().optional(),
    prepend_scheme: z.enum(['always', 'first', 'never']).optional(),
    split: z.boolean().default(true),
  })
  .transform((step) => ({
    ...step,
    add_prefix_space: step.add_prefix_space ?? step.prepend_scheme !== 'never',
  }));

const decoderStep = z.discriminatedUnion('type', [
  replace,
  z.object({ type: z.literal('ByteFallback') }),
  z.object({ type: z.literal('Fuse') }),
  z.object({
    type: z.literal('Strip'),
    content: z.string(),
    start: z.int().min(0).max(1, 'a Strip of more than one character is not supported'),
    stop: z.literal(0, 'a Strip at the end is not supported'),
  }),
  metaspace,
]);

const absent = (key: string) =>
  z
    .union([z.null(), z.literal('')], `${key} is not supported`)
    .optional()
    .transform(() => null);

/** `tokenizer.json` as far as it is supported: other forms are refused, unknown keys are dropped. */
export const tokenizerJson = z.object({
  added_tokens: z.array(addedToken).default([]),
  normalizer: z
    .discriminatedUnion('type', [
      z.object({ type: z.literal('Sequence'), normalizers: z.array(normalizerStep) }),
      ...normalizerStep.options,
    ])
    .nullish()
    .transform((normalizer) => normalizer ?? null),
  pre_tokenizer: metaspace.nullish().transform((preTokenizer) => preTokenizer ?? null),
  post_processor: z.unknown(),
  decoder: z.discriminatedUnion(
    'type',
    [z.object({ type: z.literal('Sequence'), decoders: z.array(decoderStep) }), ...decoderStep.options],
    {
      error: ({ input }) =>
        input == null ? 'missing; {"type": "Fuse"} joins the tokens as they are' : undefined,
    },
  ),
  model: z.object({
    type: z.literal('BPE'),
    dropout: z.literal([0, null], 'BPE dropout is not supported').optional(),
    unk_token: z.string().nullish(),
    continuing_subword_prefix: absent('continuing_subword_prefix'),
    end_of_word_suffix: absent('end_of_word_suffix'),
    ignore_merges: z.literal(false, 'ignore_merges: true is not supported').optional(),
    fuse_unk: z.boolean().default(false),
    byte_fallback: z.boolean().default(false),
    vocab: z.record(z.string(), z.int().nonnegative()).transform((vocab) => new Map(Object.entries(vocab))),
    // One string with a space between them, or a pair.
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])),
  }),
});

const namedToken = z
  .union([z.string(), z.object({ content: z.string() }).transform((token) => token.content)])
  .nullish();

/** The keys of `tokenizer_config.json` that decide ids. */
export const tokenizerConfig = z.object({
  bos_token: namedToken,
  eos_token: namedToken,
  add_bos_token: z.boolean().nullish(),
  add_eos_token: z.boolean().nullish(),
});

/** The special tokens that a TemplateProcessing puts around a single text. */
export const template = z
  .object({
    type: z.literal('TemplateProcessing'),
    single: z.array(z.object({ SpecialToken: z.object({ id: z.string() }).optional() })),
  })
  .transform(({ single }) => single.flatMap((part) => part.SpecialToken?.id ?? []));
