import { formatPrompt } from '../data/prompt.js';
import { byteToken } from '../tokenizer/definition.js';
import { SKILLS } from './skills.js';

const BOS = '<s>';
const EOS = '</s>';

/**
 * The files of the quickstart's tokenizer, in the form of Hugging Face `tokenizers` (a LLaMA tokenizer: byte
 * pair encoding with byte fallback, `▁` for the space and before every stretch of text).
 *
 * There are no merges: the skills are about letters, so words are spelled, every printable ASCII character a
 * token. Two kinds of text that training would only waste time on are added tokens instead: the sentences that
 * the prompt puts around every instruction, one token each, as role markers are in chat models; and the words
 * that the phrasings are made of, each with the space behind it. A row takes 19 tokens so, not 200.
 *
 * @returns file name → content
 */
export function quickstartTokenizer(): Record<'tokenizer.json' | 'tokenizer_config.json', string> {
  const bytes = Array.from({ length: 256 }, (_, byte) => byteToken(byte));
  const printable = Array.from({ length: 94 }, (_, i) => String.fromCharCode(0x21 + i));
  const pieces = ['<unk>', BOS, EOS, ...bytes, '▁', ...printable];
  const added = [
    ...['<unk>', BOS, EOS].map((content, id) => addedToken(id, content, true)),
    ...[...templateParts(), ...phrasingWords()].map((content, i) =>
      addedToken(pieces.length + i, content, false),
    ),
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
export const QUICKSTART_VOCAB_SIZE = 3 + 256 + 1 + 94 + templateParts().length + phrasingWords().length;

/** The fixed stretches of the two prompt templates, in the order in which they occur. */
function templateParts(): string[] {
  const slot = '\0';
  const prompts = [formatPrompt({ instruction: slot }), formatPrompt({ instruction: slot, input: slot })];
  return [...new Set(prompts.flatMap((prompt) => prompt.split(slot)))];
}

/** The words of all phrasings, with the space or the punctuation behind them: `letter `, `input.`. */
function phrasingWords(): string[] {
  const fixed = SKILLS.flatMap((skill) => skill.phrasings.flatMap((phrasing) => phrasing.split(/\{\w\}/)));
  return [...new Set(fixed.flatMap((text) => text.match(/[A-Za-z]\S* ?/g) ?? []))].sort();
}

function addedToken(id: number, content: string, special: boolean) {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special };
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 1)}\n`;
}
