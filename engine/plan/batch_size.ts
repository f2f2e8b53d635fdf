/** What of a micro-batch decides the memory and the arithmetic it takes. */
export interface BatchSize {
  /** Which examples of the data it holds. */
  examples: ArrayLike<number>;
  /** Tokens of each of its documents. */
  lengths: number[];
  /** Of all documents together. */
  tokens: number;
  /** Positions that predict something. */
  labelTokens: number;
  /** Tokens of the longest document. */
  longest: number;
}

/** The size of a micro-batch of these examples, from tokens and labelled positions of every example of the data. */
export function batchSize(
  examples: ArrayLike<number>,
  data: { lengths: Int32Array; labelCounts: Int32Array },
): BatchSize {
  const lengths = Array.from(examples, (example) => data.lengths[example]);
  return {
    examples,
    lengths,
    tokens: lengths.reduce((sum, n) => sum + n, 0),
    labelTokens: Array.from(examples).reduce((sum, example) => sum + data.labelCounts[example], 0),
    longest: Math.max(0, ...lengths),
  };
}

/**
 * How much smaller in tokens and in labels a micro-batch must be to be certain to take less of the arena. Every
 * tensor of a step grows with one or the other, but where they are placed does not: a slightly smaller micro-batch
 * can miss a gap that a larger one fits into, and take a few percent more (7 % at most was seen).
 */
const CLEARLY_SMALLER = 3 / 4;

/**
 * The sizes among which the one that takes the most of the arena is: those that are not clearly smaller than
 * another, with a longest document no longer than that one's. One of each size. Matrices have room for whole steps of
 * `rowStep` rows, so a micro-batch must be clearly smaller in those too.
 */
export function contenders(sizes: readonly BatchSize[], rowStep: number): BatchSize[] {
  const distinct = new Map<string, BatchSize>();
  for (const size of sizes) distinct.set(`${size.tokens} ${size.labelTokens} ${size.longest}`, size);
  const longestFirst = [...distinct.values()].sort((a, b) => b.longest - a.longest || b.tokens - a.tokens);

  // Of the sizes so far, those that no other one exceeds: all that the next ones need to be compared with.
  let front: BatchSize[] = [];
  const whole = (rows: number) => Math.ceil(rows / rowStep) * rowStep;
  const holds = (a: number, b: number, factor: number) => factor * a >= b && factor * whole(a) >= whole(b);
  const exceeds = (a: BatchSize, b: BatchSize, factor: number) =>
    holds(a.tokens, b.tokens, factor) && holds(a.labelTokens, b.labelTokens, factor);
  return longestFirst.filter((size) => {
    if (front.some((other) => exceeds(other, size, CLEARLY_SMALLER))) return false;
    if (!front.some((other) => exceeds(other, size, 1)))
      front = [...front.filter((other) => !exceeds(size, other, 1)), size];
    return true;
  });
}
