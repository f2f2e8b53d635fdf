import { byteToken } from './definition.js';

/**
 * Turns ids into text as they are generated. A piece's text is certain when it comes; a character that the
 * vocabulary spells in bytes only when its last byte has come.
 *
 * All that is returned equals `decode` of all ids, with one exception: where bytes that are not UTF-8 follow
 * directly on characters spelt in bytes, `decode` shows that whole run as U+FFFD, and here the characters are
 * already out.
 */
export class TokenStream {
  private bytes: number[] = [];
  private atStart = true;

  /**
   * @param tokenAt the token of an id; undefined for an id that shows nothing
   * @param byteAt the byte that an id stands for; undefined for all other ids
   * @param join the text of a list of tokens, as the tokenizer's decoder gives it
   */
  constructor(
    private readonly tokenAt: (id: number) => string | undefined,
    private readonly byteAt: (id: number) => number | undefined,
    private readonly join: (tokens: string[]) => string,
  ) {}

  /**
   * The text that has become certain with `id`: sometimes empty, never half a character.
   * @throws UserError when `id` is outside the vocabulary
   */
  push(id: number): string {
    const token = this.tokenAt(id);
    if (token === undefined) return '';
    const byte = this.byteAt(id);
    if (byte === undefined) return this.end() + this.text([token]);
    this.bytes.push(byte);
    let broken = '';
    while (!startsCharacter(this.bytes)) broken += this.text([byteToken(this.bytes.shift()!)]);
    return isCharacter(this.bytes) ? broken + this.end() : broken;
  }

  /** The text of what is left: U+FFFD for each byte of a character that was not completed. */
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
