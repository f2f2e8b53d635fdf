import { UserError } from '../errors.js';
import { byteToken, type Definition, readDefinition } from './definition.js';
import { library } from './library.js';
import { PieceCutter } from './pieces.js';
import { escapeRegExp, type Section, sectionSplitter } from './special_tokens.js';
import { TokenStream } from './stream.js';

export interface EncodeOptions {
  /** Add BOS and EOS where the tokenizer's own `add_bos_token` and `add_eos_token` say so. Default false. */
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
  /** SHA-256 of the files that decide the ids. */
  readonly hash: string;
  /**
   * The ids of a text. Special tokens written in it are matched on the raw text first; each stretch between
   * them is then encoded by itself, with its own leading `▁` where tokenizer.json asks for one.
   */
  encode(text: string, options?: EncodeOptions): number[];
  /**
   * The text of ids. Bytes that are not UTF-8 become U+FFFD, one for each byte of the run they stand in.
   * @throws UserError naming an id outside the vocabulary
   */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  /** A decoder for ids that come one by one. */
  stream(options?: DecodeOptions): TokenStream;
}

/** Pieces kept with their ids; then all are forgotten at once. Real text has about this many that recur. */
const CACHED_PIECES = 1 << 16;
/** Longer pieces hardly ever come twice. */
const CACHED_PIECE_LENGTH = 64;

/**
 * Loads the tokenizer of a directory: `tokenizer.json` (BPE, of the LLaMA kind) and, where there is one,
 * `tokenizer_config.json`. Nothing is ever fetched.
 * @throws UserError naming the file when it is missing, broken or of a kind that is not supported
 */
export async function loadTokenizer(directory: string): Promise<Tokenizer> {
  return new BpeTokenizer(directory, await readDefinition(directory), await library());
}

type Library = Awaited<ReturnType<typeof library>>;

/**
 * `@xenova/transformers` normalizes, pre-tokenizes, merges and decodes. It departs from the LLaMA tokenizer in
 * the following, which is put right here or in readDefinition:
 * - merges given as pairs, BOS and EOS flags, special tokens given without `__type`;
 * - a Metaspace of the newer form (`prepend_scheme` alone, `split`), and `legacy: false` overruling the file;
 * - a byte missing in the vocabulary (the whole character is then unknown, not its bytes one by one);
 * - bytes that are not UTF-8, and the byte order mark, when decoding; the clean-up of spaces, which loses text;
 * - its cache of every word it ever saw.
 */
class BpeTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly hash: string;

  private readonly bpe: InstanceType<Library['PreTrainedTokenizer']>;
  private readonly sections: (text: string) => Section[];
  private readonly cutter: PieceCutter;
  private readonly cache = new Map<string, readonly number[]>();
  private readonly wordStart: RegExp | undefined;
  private readonly specialIds: ReadonlySet<number>;
  /** The byte of each byte token's id, empty where the decoder shows these tokens as they are written. */
  private readonly bytes = new Map<number, number>();

  constructor(
    readonly directory: string,
    private readonly definition: Definition,
    { PreTrainedTokenizer }: Library,
  ) {
    const { json, merges } = definition;
    this.bosId = definition.bosId;
    this.eosId = definition.eosId;
    this.hash = definition.hash;
    this.bpe = new PreTrainedTokenizer(
      {
        ...json,
        post_processor: null,
        model: {
          ...json.model,
          vocab: Object.fromEntries(json.model.vocab),
          merges: merges.map((merge) => merge.join(' ')),
        },
      },
      {},
    );
    const { model, decoder } = this.bpe;
    this.vocabSize = model.vocab.length;
    model.cache = { get: () => undefined, set: () => undefined };
    for (const step of decoder.decoders ?? [decoder]) {
      if (step.text_decoder === undefined) continue;
      step.text_decoder = { decode: decodeBytes };
      for (let byte = 0; byte < 256; byte++) {
        const id = model.tokens_to_ids.get(byteToken(byte));
        if (id !== undefined) this.bytes.set(id, byte);
      }
    }
    this.sections = sectionSplitter(json.added_tokens);
    this.cutter = new PieceCutter(merges);
    if (json.pre_tokenizer?.split)
      this.wordStart = new RegExp(`(?=${escapeRegExp(json.pre_tokenizer.replacement)})`);
    this.specialIds = new Set(json.added_tokens.flatMap(({ id, special }) => (special ? [id] : [])));
  }

  encode(text: string, { special = false }: EncodeOptions = {}): number[] {
    const { addBos, addEos } = this.definition;
    const ids: number[] = [];
    if (special && addBos && this.bosId !== undefined) ids.push(this.bosId);
    for (const [index, section] of this.sections(text).entries()) {
      if ('id' in section) ids.push(section.id);
      else for (const word of this.words(section.text, index)) this.encodeWord(word, ids);
    }
    if (special && addEos && this.eosId !== undefined) ids.push(this.eosId);
    return ids;
  }

  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    const tokens = Array.from(ids, (id) => this.tokenAt(id, options));
    return this.bpe.decoder.decode(tokens.filter((token) => token !== undefined));
  }

  stream(options: DecodeOptions = {}): TokenStream {
    return new TokenStream(
      (id) => this.tokenAt(id, options),
      (id) => this.bytes.get(id),
      (tokens) => this.bpe.decoder.decode(tokens),
    );
  }

  /** The words of a stretch between special tokens; no merge goes from one into the next. */
  private words(stretch: string, section: number): string[] {
    const normalized = this.bpe.normalizer?.normalize(stretch) ?? stretch;
    const words = this.bpe.pre_tokenizer?.pre_tokenize_text(normalized, { section_index: section });
    if (words === undefined) return [normalized];
    const { wordStart } = this;
    return wordStart === undefined ? words : words.flatMap((word) => word.split(wordStart));
  }

  private encodeWord(word: string, ids: number[]): void {
    const { fuse_unk, unk_token } = this.definition.json.model;
    const fused = fuse_unk && unk_token != null ? this.bpe.model.tokens_to_ids.get(unk_token) : undefined;
    const first = ids.length;
    for (let start = 0, end: number; start < word.length; start = end) {
      end = this.cutter.end(word, start);
      for (const id of this.pieceIds(word.slice(start, end)))
        if (id !== fused || ids.length === first || ids[ids.length - 1] !== id) ids.push(id);
    }
  }

  private pieceIds(piece: string): readonly number[] {
    const cached = this.cache.get(piece);
    if (cached !== undefined) return cached;
    // Half a surrogate pair is no character: it counts as U+FFFD, as it would in UTF-8.
    const ids = this.bpe.model
      .bpe(piece.replace(/\p{Surrogate}/gu, '\uFFFD'))
      .flatMap((token) => this.idsOf(token));
    if (piece.length <= CACHED_PIECE_LENGTH) {
      if (this.cache.size === CACHED_PIECES) this.cache.clear();
      // A slice keeps the whole text it was cut from in memory; a copy does not.
      this.cache.set(Array.from(piece).join(''), ids);
    }
    return ids;
  }

  /** The id of a token that merging left; of a character that is in no piece: its bytes, or unknown. */
  private idsOf(token: string): number[] {
    const { tokens_to_ids } = this.bpe.model;
    const id = tokens_to_ids.get(token);
    if (id !== undefined) return [id];
    const { byte_fallback, unk_token } = this.definition.json.model;
    if (byte_fallback) {
      const bytes = Array.from(Buffer.from(token), (byte) => tokens_to_ids.get(byteToken(byte)));
      if (bytes.every((byte) => byte !== undefined)) return bytes;
    }
    return [tokens_to_ids.get(unk_token!)!];
  }

  private tokenAt(id: number, { skipSpecial = false }: DecodeOptions): string | undefined {
    if (!Number.isInteger(id) || id < 0 || id >= this.vocabSize)
      throw new UserError(
        `${this.directory}: ${id} is not an id of its vocabulary, 0 to ${this.vocabSize - 1}`,
      );
    return skipSpecial && this.specialIds.has(id) ? undefined : this.bpe.model.vocab[id];
  }
}

function decodeBytes(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return '\uFFFD'.repeat(bytes.length);
  }
}
