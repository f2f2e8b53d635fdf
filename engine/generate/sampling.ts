/** How the next token is chosen. What is left out changes nothing; all left out is greedy decoding. */
export interface Sampling {
  /** Logits of ids already there: divided by it when positive, multiplied when negative (arXiv 1909.05858). */
  repetitionPenalty?: number;
  /** Logits are divided by it. 0 or absent: greedy, the largest logit (of equal ones the lowest id). */
  temperature?: number;
  /** Keeps the k largest logits, and all that equal the k-th. 0: all. */
  topK?: number;
  /** Keeps the smallest set of most probable tokens whose probabilities exceed it (arXiv 1904.09751). 1: all. */
  topP?: number;
  /** Keeps probabilities of at least so many times the largest (arXiv 2407.01082). */
  minP?: number;
  /** What a draw depends on, besides the numbers of text and step. Default 0. */
  seed?: number;
}

/**
 * Probabilities float64 [vocab] of logits [vocab], by the definitions and in the order of transformers' `generate`:
 * repetition penalty, temperature (absent: 1), top_k, top_p, min_p, softmax. `previousIds` are those that the
 * penalty looks at; one that occurs several times is penalised once.
 */
export function probabilities(
  logits: ArrayLike<number>,
  previousIds: Iterable<number>,
  { repetitionPenalty, temperature = 1, topK, topP, minP }: Sampling,
): Float64Array {
  const scores = penalised(logits, previousIds, repetitionPenalty);
  if (temperature !== 1) {
    // From the largest down: whatever the temperature, no score grows beyond what a number can hold.
    const most = largest(scores);
    for (let id = 0; id < scores.length; id++) scores[id] = (scores[id] - most) / temperature;
  }
  if (topK) keepTopK(scores, topK);
  if (topP !== undefined && topP < 1) keepTopP(scores, topP);
  if (minP) keepMinP(scores, minP);
  return softmax(scores);
}

/** Which draw it is: `step` numbers those of a text, `text` the texts that one seed serves. */
export interface Draw {
  step: number;
  text: number;
}

/**
 * The next token: the most probable one, or one drawn by the settings. Each draw is a function of the seed and its
 * numbers, and not of what was drawn before.
 */
export function chooseToken(
  logits: ArrayLike<number>,
  previousIds: Iterable<number>,
  sampling: Sampling,
  at: Draw,
): number {
  const { temperature, repetitionPenalty: penalty = 1 } = sampling;
  if (!temperature) return argmax(penalty === 1 ? logits : penalised(logits, previousIds, penalty));
  return draw(probabilities(logits, previousIds, sampling), uniform(sampling.seed ?? 0, at));
}

/** The id in whose stretch of the cumulated probabilities `u`, from [0, 1), falls. */
export function draw(probabilities: Float64Array, u: number): number {
  const total = probabilities.reduce((sum, p) => sum + p, 0);
  let cumulated = 0;
  let last = 0;
  for (let id = 0; id < probabilities.length; id++) {
    if (probabilities[id] === 0) continue;
    cumulated += probabilities[id];
    last = id;
    if (u * total < cumulated) return id;
  }
  return last;
}

/** A number in [0, 1), uniform over seeds, texts and steps: SplitMix64's output function on a counter of both. */
export function uniform(seed: number, { step, text }: Draw): number {
  const key = mix(BigInt(seed) + STRIDE);
  return Number(mix(key + BigInt(step) * STRIDE + BigInt(text) * TEXT_STRIDE) >> 11n) * 2 ** -53;
}

/** SplitMix64's own step, 2⁶⁴ by the golden ratio, and that of its second counter, 2⁶⁴ by π: multiples do not meet. */
const STRIDE = 0x9e3779b97f4a7c15n;
const TEXT_STRIDE = 0x517cc1b727220a95n;

function mix(x: bigint): bigint {
  x = BigInt.asUintN(64, x);
  x = BigInt.asUintN(64, (x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n);
  x = BigInt.asUintN(64, (x ^ (x >> 27n)) * 0x94d049bb133111ebn);
  return x ^ (x >> 31n);
}

function argmax(scores: ArrayLike<number>): number {
  let best = 0;
  for (let id = 1; id < scores.length; id++) if (scores[id] > scores[best]) best = id;
  return best;
}

function penalised(logits: ArrayLike<number>, previousIds: Iterable<number>, penalty = 1): Float64Array {
  const scores = Float64Array.from(logits);
  if (penalty !== 1)
    for (const id of new Set(previousIds))
      scores[id] = scores[id] < 0 ? scores[id] * penalty : scores[id] / penalty;
  return scores;
}

// What is removed has the score −∞.

function keepTopK(scores: Float64Array, k: number): void {
  if (k < scores.length) removeBelow(scores, scores.toSorted()[scores.length - k]);
}

function keepMinP(scores: Float64Array, minP: number): void {
  const p = softmax(scores);
  const least = minP * largest(p);
  for (let id = 0; id < p.length; id++) if (p[id] < least) scores[id] = -Infinity;
}

function keepTopP(scores: Float64Array, topP: number): void {
  const ascending = scores.filter((score) => score > -Infinity).sort();
  const p = softmax(ascending);
  // From the least probable on, those go that have at most 1 − topP with them; the most probable one stays.
  let removed = 0;
  for (let cumulated = p[0]; removed < p.length - 1 && cumulated <= 1 - topP; ) cumulated += p[++removed];
  const threshold = ascending[removed];
  let equal = removed - ascending.indexOf(threshold);
  removeBelow(scores, threshold);
  for (let id = scores.length - 1; equal > 0; id--)
    if (scores[id] === threshold) {
      scores[id] = -Infinity;
      equal--;
    }
}

function removeBelow(scores: Float64Array, threshold: number): void {
  for (let id = 0; id < scores.length; id++) if (scores[id] < threshold) scores[id] = -Infinity;
}

function softmax(scores: Float64Array): Float64Array {
  const max = largest(scores);
  const p = scores.map((score) => Math.exp(score - max));
  const total = p.reduce((sum, x) => sum + x, 0);
  return p.map((x) => x / total);
}

function largest(values: Float64Array): number {
  return values.reduce((max, x) => Math.max(max, x), -Infinity);
}
