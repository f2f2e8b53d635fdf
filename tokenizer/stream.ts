import { byteToken } from './definition.js';

/** Turns ids into text as they are generated. All that is returned equals `decode` of all ids. */
export interface TokenStream {
  /**
   * The text that has become certain with `id`: sometimes empty, never half a character.
   * @throws UserError when `id` is outside the vocabulary
   */
  push(id: number): string;
  /** The text of what is left: U+FFFD for a character that was not completed. */
  end(): string;
}

/** The stream of a byte-level vocabulary: a character is certain with its last byte. */
export class ByteStream implements TokenStream {
  private readonly decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  /** @param bytesAt the bytes of an id; none for an id that shows nothing */
  constructor(private readonly bytesAt: (id: number) => Uint8Array) {}

  push(id: number): string {
    return this.decoder.decode(this.bytesAt(id), { stream: true });
  }

  end(): string {
    return this.decoder.decode();
  }
}

/**
 * The stream of a vocabulary of pieces. A piece's text is certain when it comes; a character that the vocabulary
 * spells in bytes only when its last byte has come.
 *
 * All that is returned equals `decode` of all ids, with one exception: where bytes that are not UTF-8 follow
 * directly on characters spelt in bytes, `decode` shows that whole run as U+FFFD, and here the characters are
 * already out.
 */
export class PieceStream implements TokenStream {
  private bytes: number[] = [];
  private atStart = true;

  /**
   * @param tokenAt the token of an id; undefined for an id that shows nothing
   * @param byteOf the byte that a token stands for; undefined for all others
   * @param join the text of a list of tokens, as the tokenizer's decoder gives it
   */
  constructor(
    private readonly tokenAt: (id: number) => string | undefined,
    private readonly byteOf: (token: string) => number | undefined,
    private readonly join: (tokens: readonly string[]) => string,
  ) {}

  push(id: number): string {
    const token = this.tokenAt(id);
    if (token === undefined) return '';
    const byte = this.byteOf(token);
    if (byte === undefined) return this.end() + this.text([token]);
    this.bytes.push(byte);
    let broken = '';
    while (!startsCharacter(this.bytes)) broken += this.text([byteToken(this.bytes.shift()!)]);
    return isCharacter(this.bytes) ? broken + this.end() : broken;
  }

  end(): string {
    const tokens = this.bytes.map(byteToken);
    this.bytes = [];
    return tokens.length === 0 ? '' : this.text(tokens);
  }

  /** The decoder treats the first token apart (its leading space goes), so later ones are shown behind another. */
  private text(tokens: string[]): string {
    const later = this.join(['x', ...tokens]).slice(1);
    const text = this.atStart ? this.join(tokens) : later;
    if (later !== '') this.atStart = false;
    return text;
  }
}

/** Whether some UTF-8 character begins with these bytes, or is these bytes. */
function startsCharacter(bytes: number[]): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes), { stream: true });
    return true;
  } catch {
    return false;
  }
}

function isCharacter(bytes: number[]): boolean {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes)) !== '';
  } catch {
    return false;
  }
}
