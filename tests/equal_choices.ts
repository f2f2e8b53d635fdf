import { expect } from 'vitest';
import type { LlamaForCausalLM } from '../engine/model/llama.js';

// Two ways of decoding that differ in nothing but the order of sums, as a batch and one text at a time do, may choose
// differently where the two best logits are as near as rounding: float32 logits of order 10 are right to about 1e-5.
const TIE = 1e-5;

/**
 * Expects the same greedy choices behind a prompt, up to the first tie, from where on the texts are different ones.
 * Returns the number of ids that were compared.
 */
export function expectEqualChoices(
  model: LlamaForCausalLM,
  prompt: readonly number[],
  actual: readonly number[],
  expected: readonly number[],
): number {
  const at = expected.findIndex((id, i) => actual[i] !== id);
  if (at < 0) {
    expect(actual).toEqual(expected);
    return expected.length;
  }
  const ids = Int32Array.from([...prompt, ...expected.slice(0, at)]);
  const logits = model.logits({
    ids,
    targets: ids.map(() => -100),
    documentOffsets: Int32Array.of(0, ids.length),
  });
  const last = logits.floats().slice(-model.parameters.config.vocabSize);
  logits.dispose();
  const [best, second] = last.toSorted((a, b) => b - a);
  expect(best - second, `${actual} instead of ${expected} behind ${prompt}`).toBeLessThan(TIE);
  for (const id of [actual[at], expected[at]]) expect(best - last[id]).toBeLessThan(TIE);
  return at;
}
