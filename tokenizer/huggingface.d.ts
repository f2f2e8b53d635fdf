/**
 * The parts of `@huggingface/tokenizers` used here: its own types import each other without extensions, which
 * TypeScript does not follow in ES modules.
 */
declare module '@huggingface/tokenizers' {
  type Pattern = { String: string } | { Regex: string };

  export class SplitPreTokenizer {
    constructor(config: { type: 'Split'; pattern: Pattern; behavior: 'Isolated'; invert: boolean });
    pattern: RegExp;
  }

  export class ByteLevelPreTokenizer {
    constructor(config: { type: 'ByteLevel' });
    byte_encoder: Record<number, string>;
  }

  export class Unigram {
    constructor(config: { type: 'Unigram'; unk_id: number; vocab: [string, number][] }, eosToken: string);
    tokenize(word: string): string[];
  }
}
