/**
 * The parts of `@xenova/transformers` used here. The package's own types describe its index only, and the index
 * also loads sharp and the model zoo; this module is the tokenizers alone.
 */
declare module '@xenova/transformers/src/tokenizers.js' {
  export class PreTrainedTokenizer {
    constructor(tokenizerJson: object, tokenizerConfig: object);
    normalizer: { normalize(text: string): string } | null;
    pre_tokenizer: {
      pre_tokenize_text(text: string, options: { section_index: number }): string[];
    } | null;
    model: {
      tokens_to_ids: Map<string, number>;
      vocab: (string | undefined)[];
      cache: { get(key: string): string[] | undefined; set(key: string, value: string[]): unknown };
      bpe(word: string): string[];
    };
    decoder: Decoder & { decoders?: Decoder[] };
  }

  interface Decoder {
    decode(tokens: string[]): string;
    text_decoder?: { decode(bytes: Uint8Array): string };
  }
}
