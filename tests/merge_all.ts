/** Left and right part of a merge. */
export type Merge = readonly [string, string];

/** Byte pair encoding by definition: the best merge there is, leftmost first, until there is none. */
export function mergeAll(text: string, merges: readonly Merge[]): string[] {
  const tokens = Array.from(text);
  for (;;) {
    let best = -1;
    let at = -1;
    for (let i = 0; i + 1 < tokens.length; i++) {
      // Of two merges of one pair the later counts, as in `tokenizers`.
      const rank = merges.findLastIndex(([left, right]) => left === tokens[i] && right === tokens[i + 1]);
      if (rank >= 0 && (best < 0 || rank < best)) [best, at] = [rank, i];
    }
    if (at < 0) return tokens;
    tokens.splice(at, 2, tokens[at] + tokens[at + 1]);
  }
}
