/** A stream of reproducible random choices. */
export interface Random {
  /** A whole number in 0 … n − 1; n ≥ 1. */
  below(n: number): number;
  /** One element of a list that is not empty. */
  pick<T>(list: readonly T[]): T;
  /** A new list with the same elements in random order (Fisher–Yates). */
  shuffled<T>(list: readonly T[]): T[];
}

/**
 * Marsaglia's 32-bit xorshift generator ("Xorshift RNGs", 2003). The rows must be the same on every machine and
 * with every version of Node, which Math.random does not promise.
 */
export function random(seed: number): Random {
  // Zero is the one state that xorshift never leaves; the multiplication spreads neighbouring seeds apart.
  let state = Math.imul(seed + 1, 0x9e3779b1) || 1;
  const below = (n: number) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.floor(((state >>> 0) / 2 ** 32) * n);
  };
  return {
    below,
    pick: (list) => list[below(list.length)],
    shuffled: (list) => {
      const out = [...list];
      for (let i = out.length - 1; i > 0; i--) {
        const j = below(i + 1);
        [out[i], out[j]] = [out[j], out[i]];
      }
      return out;
    },
  };
}
