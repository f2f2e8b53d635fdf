/**
 * Byte pair encoding (arXiv 1508.07909): of all neighbours the pair with the best merge is joined, the leftmost first,
 * until there is none.
 *
 * `@huggingface/tokenizers` does the same by strings; words that come for the first time then take most of the time
 * of tokenising 52,000 rows. Here a text is a row of numbers, and so are merges.
 */
export class Merges {
  private readonly codes = new Map<string, number>();
  private readonly texts: string[] = [];
  /** left · number of codes + right → rank; of two merges of one pair the later counts, as in `tokenizers`. */
  private readonly ranks = new Map<number, number>();
  /** The code of what each merge makes. */
  private readonly results: Int32Array;

  /** @param merges left and right part of every merge, best first */
  constructor(merges: readonly (readonly [string, string])[]) {
    const code = (text: string): number => {
      const known = this.codes.get(text);
      if (known !== undefined) return known;
      this.codes.set(text, this.texts.length);
      return this.texts.push(text) - 1;
    };
    const pairs = merges.map(([left, right]) => [code(left), code(right)]);
    this.results = Int32Array.from(merges, ([left, right]) => code(left + right));
    for (const [rank, [left, right]] of pairs.entries())
      this.ranks.set(left * this.texts.length + right, rank);
  }

  /** The tokens of a text, in time n log n. */
  apply(text: string): string[] {
    const characters = Array.from(text);
    const count = characters.length;
    const codes = characters.map((character) => this.codes.get(character) ?? UNKNOWN);
    const next = codes.map((_, i) => i + 1);
    const before = codes.map((_, i) => i - 1);
    // A merge that can be done at a place: the best first, of equal ones the leftmost.
    const heap = new Heap();
    const offer = (i: number): void => {
      const rank = i < 0 || next[i] >= count ? undefined : this.rankOf(codes[i], codes[next[i]]);
      if (rank !== undefined) heap.push(rank * count + i);
    };
    for (let i = 0; i < count; i++) offer(i);
    for (let top = heap.pop(); top !== undefined; top = heap.pop()) {
      const i = top % count;
      const rank = (top - i) / count;
      const j = next[i];
      // What stood here then may have been joined with something else since.
      if (j >= count || this.rankOf(codes[i], codes[j]) !== rank) continue;
      codes[i] = this.results[rank];
      codes[j] = GONE;
      next[i] = next[j];
      if (next[i] < count) before[next[i]] = i;
      offer(before[i]);
      offer(i);
    }
    const tokens: string[] = [];
    for (let i = 0; i < count; i = next[i])
      tokens.push(codes[i] === UNKNOWN ? characters[i] : this.texts[codes[i]]);
    return tokens;
  }

  private rankOf(left: number, right: number): number | undefined {
    return left < 0 || right < 0 ? undefined : this.ranks.get(left * this.texts.length + right);
  }
}

/** A character that is in no merge. */
const UNKNOWN = -1;
/** A place whose text has been joined with what is before it. */
const GONE = -2;

/** Numbers, the least first. */
class Heap {
  private readonly items: number[] = [];

  push(item: number): void {
    const { items } = this;
    let at = items.push(item) - 1;
    for (let parent = (at - 1) >> 1; at > 0 && items[parent] > item; parent = (at - 1) >> 1) {
      items[at] = items[parent];
      at = parent;
    }
    items[at] = item;
  }

  pop(): number | undefined {
    const { items } = this;
    const top = items[0];
    const item = items.pop();
    if (item === undefined || items.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child + 1 < items.length && items[child + 1] < items[child]) child++;
      if (child >= items.length || items[child] >= item) break;
      items[at] = items[child];
      at = child;
    }
    items[at] = item;
    return top;
  }
}
