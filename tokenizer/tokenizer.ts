import { UserError } from '../errors.js';
import { bytesOf } from './byte_level.js';
import { byteOf, decoder } from './decoder.js';
import { type Definition, definitionOf } from './definition.js';
import { hashOf, readTokenizerFiles, type TokenizerFiles } from './files.js';
import { wordEncoder } from './model.js';
import { normalizer } from './normalizer.js';
import { preTokenizer } from './pre_tokenizer.js';
import { sectionSplitter } from './special_tokens.js';
import { ByteStream, PieceStream, type TokenStream } from './stream.js';

export interface EncodeOptions {
  /** Add what the tokenizer's own files put around a text, such as BOS. Default false. */
  special?: boolean;
}

export interface DecodeOptions {
  /** Leave special tokens out of the text. Default false. */
  skipSpecial?: boolean;
}

export interface Tokenizer {
  readonly directory: string;
  /** Ids are 0 … vocabSize − 1, added tokens included. */
  readonly vocabSize: number;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  /** What begins every text: BOS, where the tokenizer's files put it there. */
  readonly prefix: readonly number[];
  /** What its files say together: tokenizerOf makes the same tokenizer of it in another thread. */
  readonly definition: Definition;
  /** All files of the tokenizer by their names in the directory, as they were read once. */
  readonly files: TokenizerFiles;
  /** SHA-256 of the files that decide the ids. */
  readonly hash: string;
  /**
   * The ids of a text. Special tokens written in it are found in the text as it is; each stretch between them is
   * then normalized and encoded by itself, with its own leading `▁` where tokenizer.json asks for one.
   */
  encode(text: string, options?: EncodeOptions): number[];
  /**
   * The text of ids. Bytes that are not UTF-8 become U+FFFD: one for each byte of the run they stand in where bytes
   * are tokens like `<0x0A>`, one for each broken character in a byte-level vocabulary.
   * @throws UserError naming an id outside the vocabulary
   */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  /** A decoder for ids that come one by one. */
  stream(options?: DecodeOptions): TokenStream;
}

/**
 * Loads the tokenizer of a directory: `tokenizer.json` (BPE, byte-level or not, or Unigram) and the files beside it
 * that transformers reads with it. Nothing is ever fetched.
 * @throws UserError naming the file when it is missing, broken, of a kind that is not supported, or contradicts another
 */
export async function loadTokenizer(directory: string): Promise<Tokenizer> {
  return makeTokenizer(directory, readTokenizerFiles(directory));
}

/**
 * The tokenizer of files that were read from a directory.
 * @throws UserError as loadTokenizer does
 */
export function makeTokenizer(directory: string, files: TokenizerFiles): Tokenizer {
  return tokenizerOf(directory, files, definitionOf(directory, files));
}

/**
 * The tokenizer of a definition.
 *
 * The lattice of Unigram and the translation of Oniguruma's regular expressions are those of
 * `@huggingface/tokenizers`. Its normalizers, pre-tokenizers and decoders are not used: they depart from `tokenizers`
 * in more places than these have lines (behaviours of Split, Digits and Punctuation beyond ASCII, `$` in a Replace,
 * the last Σ of a word, Metaspace's split, bytes that are not UTF-8).
 *
 * One thing is not as `tokenizers` does it: special tokens are found in the raw text even where tokenizer.json marks
 * them `normalized`. LLaMA's own file does, and `foo</s>` would not end in EOS; transformers marks them anew, too.
 */
export function tokenizerOf(directory: string, files: TokenizerFiles, definition: Definition): Tokenizer {
  const { json, addedTokens, bosId, eosId, prefix, suffix } = definition;
  const normalize = normalizer(json.normalizer);
  const raw = addedTokens.filter(({ special, normalized }) => special || !normalized);
  const normal = addedTokens
    .filter((token) => !raw.includes(token))
    .map((token) => ({ ...token, content: normalize(token.content) }));
  const tokens = new Map<number, string>();
  for (const [token, id] of json.model.vocab) tokens.set(id, token);
  for (const { content, id } of [...raw, ...normal]) tokens.set(id, content);
  let vocabSize = 0;
  for (const id of tokens.keys()) vocabSize = Math.max(vocabSize, id + 1);
  const specialIds = new Set(addedTokens.flatMap(({ id, special }) => (special ? [id] : [])));

  const rawSections = sectionSplitter(raw);
  const normalSections = sectionSplitter(normal);
  const { words, spell } = preTokenizer(json.pre_tokenizer);
  const encodeWord = wordEncoder(definition, spell);
  const encodeText = (text: string): number[] => {
    const ids: number[] = [];
    for (const [i, section] of rawSections(text.toWellFormed()).entries()) {
      if ('id' in section) {
        ids.push(section.id);
        continue;
      }
      for (const [j, stretch] of normalSections(normalize(section.text)).entries()) {
        if ('id' in stretch) ids.push(stretch.id);
        else
          for (const word of words(stretch.text, i === 0 && j === 0))
            for (const id of encodeWord(word)) ids.push(id);
      }
    }
    return ids;
  };

  const decode = decoder(json.decoder);
  /** Undefined for an id that shows nothing. */
  const tokenAt = (id: number, { skipSpecial = false }: DecodeOptions): string | undefined => {
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize)
      throw new UserError(`${directory}: ${id} is not an id of its vocabulary, 0 to ${vocabSize - 1}`);
    return skipSpecial && specialIds.has(id) ? undefined : tokens.get(id);
  };
  const types = json.decoder.map(({ type }) => type);

  return {
    directory,
    definition,
    files,
    vocabSize,
    bosId,
    eosId,
    prefix,
    hash: hashOf(files),
    encode: (text, { special = false } = {}) =>
      special ? [...prefix, ...encodeText(text), ...suffix] : encodeText(text),
    decode: (ids, options = {}) =>
      decode(Array.from(ids, (id) => tokenAt(id, options)).filter((token) => token !== undefined)),
    stream: (options = {}) => {
      if (types.includes('ByteLevel')) return new ByteStream((id) => bytesOf(tokenAt(id, options) ?? ''));
      const byteAt = types.includes('ByteFallback') ? byteOf : () => undefined;
      return new PieceStream((id) => tokenAt(id, options), byteAt, decode);
    },
  };
}
