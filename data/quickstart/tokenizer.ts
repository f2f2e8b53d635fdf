import { formatPrompt } from '../prompt.js';

const BOS = '<s>';
const EOS = '</s>';

/**
 * The files of the quickstart's tokenizer, in the form of Hugging Face `tokenizers` (a LLaMA tokenizer: byte
 * pair encoding with byte fallback, `▁` for the space and before every stretch of text).
 *
 * There are no merges: every printable ASCII character is a token, since the skills are about letters. The
 * sentences around an instruction are always the same, so each is one added token, as role markers are in chat
 * models: of the 190 characters that the prompt puts around an instruction, 2 tokens remain (3 with an input).
 *
 * @returns file name → content
 */
export function quickstartTokenizer(): Record<'tokenizer.json' | 'tokenizer_config.json', string> {
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  );
  const printable = Array.from({ length: 94 }, (_, i) => String.fromCharCode(0x21 + i));
  const pieces = ['<unk>', BOS, EOS, ...bytes, '▁', ...printable];
  const added = [
    ...['<unk>', BOS, EOS].map((content, id) => addedToken(id, content, true)),
    ...templateParts().map((content, i) => addedToken(pieces.length + i, content, false)),
  ];
  return {
    'tokenizer.json': json({
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'Prepend', prepend: '▁' },
          { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
        ],
      },
      pre_tokenizer: null,
      post_processor: {
        type: 'TemplateProcessing',
        single: [{ SpecialToken: { id: BOS, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
        pair: [
          { SpecialToken: { id: BOS, type_id: 0 } },
          { Sequence: { id: 'A', type_id: 0 } },
          { SpecialToken: { id: BOS, type_id: 1 } },
          { Sequence: { id: 'B', type_id: 1 } },
        ],
        special_tokens: { [BOS]: { id: BOS, ids: [1], tokens: [BOS] } },
      },
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          { type: 'Strip', content: ' ', start: 1, stop: 0 },
        ],
      },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: '<unk>',
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: true,
        byte_fallback: true,
        vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
        merges: [],
      },
    }),
    'tokenizer_config.json': json({
      add_bos_token: true,
      add_eos_token: false,
      bos_token: BOS,
      clean_up_tokenization_spaces: false,
      eos_token: EOS,
      legacy: true,
      model_max_length: 512,
      pad_token: null,
      tokenizer_class: 'LlamaTokenizer',
      unk_token: '<unk>',
    }),
  };
}

/** Entries of the vocabulary: `vocab_size` of a model for this tokenizer. */
export const QUICKSTART_VOCAB_SIZE = 3 + 256 + 1 + 94 + templateParts().length;

/** The fixed stretches of the two prompt templates, in the order in which they occur. */
function templateParts(): string[] {
  const slot = '\0';
  const prompts = [formatPrompt({ instruction: slot }), formatPrompt({ instruction: slot, input: slot })];
  return [...new Set(prompts.flatMap((prompt) => prompt.split(slot)))];
}

function addedToken(id: number, content: string, special: boolean) {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special };
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 1)}\n`;
}
