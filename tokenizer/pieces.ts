/**
 * Cuts words where no merge can ever join the two sides, so that each part can be encoded, and cached, by itself.
 *
 * A merge joins two neighbouring tokens. One that spans the boundary between two characters a|b has a left part
 * that ends with a and a right part that begins with b. Where no merge of the vocabulary has that form, the
 * boundary stays for ever, and byte pair encoding of the two sides is independent: cutting there is exact, for
 * any list of merges. In the LLaMA vocabulary this cuts before every run of `▁` (no piece has `▁` after
 * another character), between most punctuation and letters, and between nearly all Chinese characters.
 *
 * Characters are taken as UTF-16 code units. For the rare pieces outside the basic plane that allows a few more
 * joins than necessary, never fewer; a surrogate pair is never cut.
 */
export class PieceCutter {
  // The class of a code unit among those that end a left part, and among those that begin a right part;
  // 0 for those that do neither.
  private readonly leftClass = new Uint16Array(0x10000);
  private readonly rightClass = new Uint16Array(0x10000);
  private readonly rightCount: number;
  private readonly joins: Uint8Array;

  /** @param merges left and right part of every merge */
  constructor(merges: readonly (readonly [string, string])[]) {
    let lefts = 1;
    let rights = 1;
    for (const [left, right] of merges) {
      const last = left.charCodeAt(left.length - 1);
      const first = right.charCodeAt(0);
      this.leftClass[last] ||= lefts++;
      this.rightClass[first] ||= rights++;
    }
    this.rightCount = rights;
    this.joins = new Uint8Array(lefts * rights);
    for (const [left, right] of merges)
      this.joins[this.index(left.charCodeAt(left.length - 1), right.charCodeAt(0))] = 1;
  }

  /** The pieces of a word, in order. */
  pieces(word: string): string[] {
    const pieces: string[] = [];
    for (let start = 0, end: number; start < word.length; start = end) {
      end = this.end(word, start);
      pieces.push(word.slice(start, end));
    }
    return pieces;
  }

  /** The end of the piece of `word` that begins at `start`. */
  private end(word: string, start: number): number {
    let left = word.charCodeAt(start);
    let end = start + 1;
    for (; end < word.length; end++) {
      const right = word.charCodeAt(end);
      const pair = (left & 0xfc00) === 0xd800 && (right & 0xfc00) === 0xdc00;
      if (!pair && this.joins[this.index(left, right)] === 0) break;
      left = right;
    }
    return end;
  }

  private index(left: number, right: number): number {
    return this.leftClass[left] * this.rightCount + this.rightClass[right];
  }
}
