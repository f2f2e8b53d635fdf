import { describe, expect, it } from 'vitest';
import {
  dot,
  empty,
  expectClose,
  expectGradient,
  expectSameBytes,
  FLOATS,
  itRefuses,
  normal,
  type OpCases,
  Random,
  ROUNDING,
  tensor,
  valuesOf,
  withThreads,
} from '../../tests/op_cases.js';
import { addon } from '../device/addon.js';
import { chunkRows, linearCrossEntropy, linearCrossEntropyWithGradient } from './linear_cross_entropy.js';

/** Loss and log-sum-exp of each row of logits; a target of −100 has no loss. */
function reference(logits: Float64Array, targets: ArrayLike<number>): { loss: number[]; lse: number[] } {
  const vocab = logits.length / targets.length;
  const lse = Array.from({ length: targets.length }, (_, r) => {
    const row = logits.subarray(r * vocab, (r + 1) * vocab);
    const top = row.reduce((a, b) => Math.max(a, b));
    return top + Math.log(row.reduce((sum, x) => sum + Math.exp(x - top), 0));
  });
  return { lse, loss: lse.map((x, r) => (targets[r] === -100 ? 0 : x - logits[r * vocab + targets[r]])) };
}

/** Targets of which every third is none. */
function targetsOf(random: Random, rows: number, vocab: number): number[] {
  return Array.from({ length: rows }, (_, r) => (r % 3 === 2 ? -100 : random.below(vocab)));
}

/** h·Wᵀ for h [rows, dim], w [vocab, dim]. */
function logitsOf(h: Float64Array, w: Float64Array, dim: number): Float64Array {
  const vocab = w.length / dim;
  return new Float64Array((h.length / dim) * vocab).map((_, at) => {
    const [r, c] = [Math.floor(at / vocab), at % vocab];
    let sum = 0;
    for (let i = 0; i < dim; i++) sum += h[r * dim + i] * w[c * dim + i];
    return sum;
  });
}

export const cases: OpCases = (device) => {
  describe.each(FLOATS)('cross entropy of %s logits', (type) => {
    it.each([
      [1, 1],
      [3, 5],
      [17, 63],
      [5, 65],
      [130, 130],
      [2, 32003],
    ])('%i rows of %i', (rows, vocab) => {
      const random = new Random(vocab);
      const logits = normal(device, type, random, [rows, vocab], 3);
      const targets = targetsOf(random, rows, vocab);
      const weights = normal(device, 'float32', random, [rows]);
      const [x, by] = [logits, weights].map(valuesOf);
      const loss = empty(device, 'float32', [rows]);
      const lse = empty(device, 'float32', [rows]);
      const ids = tensor(device, 'int32', targets);

      addon.ops.cross_entropy({ loss, lse, logits, targets: ids, rows, vocab });
      const expected = reference(x, targets);
      // Exponentials and their sum in float32, whose logarithm is added to the largest logit (below 16).
      expectClose(valuesOf(lse), expected.lse, { absolute: 4e-6 }, 'lse');
      expectClose(valuesOf(loss), expected.loss, { absolute: 4e-6 }, 'loss');

      // The gradient in either type; a probability is an exponential over a sum of up to 32,003.
      for (const gradientType of FLOATS) {
        const dlogits = empty(device, gradientType, [rows, vocab]);
        addon.ops.cross_entropy({ loss, dlogits, logits, targets: ids, weights, rows, vocab });
        expectClose(valuesOf(loss), expected.loss, { absolute: 4e-6 }, 'loss with gradient');
        const gradient = x.map((logit, at) => {
          const r = Math.floor(at / vocab);
          if (targets[r] === -100) return 0;
          return by[r] * (Math.exp(logit - expected.lse[r]) - (at % vocab === targets[r] ? 1 : 0));
        });
        const rounded = { relative: ROUNDING[gradientType] + 4e-6, absolute: 4e-7 };
        expectClose(valuesOf(dlogits), gradient, rounded, 'dlogits');
        expectGradient(
          (v) => dot(reference(v, targets).loss, by),
          x,
          valuesOf(dlogits),
          gradientType === 'float32' ? 1e-5 : 2 ** -7,
        );
        // Over the logits themselves, when the type is theirs.
        if (gradientType === type) {
          const inPlace = tensor(device, type, x, [rows, vocab]);
          addon.ops.cross_entropy({
            loss,
            lse,
            dlogits: inPlace,
            logits: inPlace,
            targets: ids,
            weights,
            rows,
            vocab,
          });
          expectSameBytes(inPlace, dlogits, 'in place');
        }
      }
      // Without weights each row weighs 1.
      const [one, given] = [undefined, tensor(device, 'float32', new Float32Array(rows).fill(1))].map((w) => {
        const dlogits = empty(device, type, [rows, vocab]);
        addon.ops.cross_entropy({ loss, dlogits, logits, targets: ids, weights: w, rows, vocab });
        return dlogits;
      });
      expectSameBytes(one, given, 'weights of 1');
    });

    it('large logits do not overflow', () => {
      const logits = tensor(device, type, [1e4, -1e4, 1e4, -1e4, -1e4, -1e4], [2, 3]);
      const [loss, lse] = [empty(device, 'float32', [2]), empty(device, 'float32', [2])];
      const dlogits = empty(device, 'float32', [2, 3]);
      addon.ops.cross_entropy({
        loss,
        lse,
        dlogits,
        logits,
        targets: tensor(device, 'int32', [1, 0]),
        rows: 2,
        vocab: 3,
      });
      const expected = reference(valuesOf(logits), [1, 0]);
      // 1e4 in float32 is right to 5e-4.
      expectClose(valuesOf(lse), expected.lse, { absolute: 1e-3 });
      expectClose(valuesOf(loss), expected.loss, { absolute: 2e-3 });
      expectClose(valuesOf(dlogits), [0.5, -1, 0.5, -2 / 3, 1 / 3, 1 / 3], { relative: 1e-6 });
    });

    it('gives the same with any number of threads', () => {
      const logits = normal(device, type, new Random(3), [40, 500]);
      const ids = tensor(device, 'int32', targetsOf(new Random(4), 40, 500));
      const [one, three] = [1, 3].map((threads) =>
        withThreads(threads, () => {
          const loss = empty(device, 'float32', [40]);
          const dlogits = empty(device, type, [40, 500]);
          addon.ops.cross_entropy({ loss, dlogits, logits, targets: ids, rows: 40, vocab: 500 });
          return { loss, dlogits };
        }),
      );
      expectSameBytes(three.loss, one.loss);
      expectSameBytes(three.dlogits, one.dlogits);
    });
  });

  it('softmax follows the exponential over its whole range', () => {
    // Rows of two logits, 0 and −x: the second probability is e⁻ˣ / (1 + e⁻ˣ).
    const rows = 8731;
    const logits = tensor(
      device,
      'float32',
      Array.from({ length: 2 * rows }, (_, i) => (i % 2 ? -i / 200 : 0)),
    );
    const dlogits = empty(device, 'float32', [rows, 2]);
    const loss = empty(device, 'float32', [rows]);
    addon.ops.cross_entropy({
      loss,
      dlogits,
      logits,
      targets: tensor(device, 'int32', new Int32Array(rows)),
      rows,
      vocab: 2,
    });
    const x = valuesOf(logits);
    const second = (_: unknown, r: number) => 1 / (1 + Math.exp(-x[2 * r + 1]));
    const actual = valuesOf(dlogits);
    // Two to three units in the last place.
    expectClose(
      Array.from({ length: rows }, (_, r) => actual[2 * r + 1]),
      Array.from({ length: rows }, second),
      { relative: 4e-7 },
    );
  });

  it('what is below the range of floats has probability 0; a NaN stays one', () => {
    const dlogits = empty(device, 'float32', [3, 2]);
    const loss = empty(device, 'float32', [3]);
    const logits = tensor(device, 'float32', [0, -88, 0, -Infinity, Number.NaN, 0]);
    addon.ops.cross_entropy({
      loss,
      dlogits,
      logits,
      targets: tensor(device, 'int32', [0, 0, 1]),
      rows: 3,
      vocab: 2,
    });
    expect([...valuesOf(loss)]).toEqual([0, 0, Number.NaN]);
    expect([...valuesOf(dlogits)]).toEqual([0, 0, 0, 0, Number.NaN, Number.NaN]);
  });

  it.each(FLOATS)('keeps the small loss of a sure word, whatever its logit (%s)', (type) => {
    // e⁻¹⁴ = 8.3e-7, less than half a unit in the last place of the logits.
    const logits = tensor(device, type, [20, 6, 200, 186, -40, -54], [3, 2]);
    const loss = empty(device, 'float32', [3]);
    const targets = tensor(device, 'int32', [0, 0, 0]);
    addon.ops.cross_entropy({ loss, logits, targets, rows: 3, vocab: 2 });
    // Half a unit in the last place of Σ = 1 + e⁻¹⁴, and what rounds its logarithm.
    expectClose(valuesOf(loss), reference(valuesOf(logits), [0, 0, 0]).loss, { absolute: 6.1e-8 });
    expectClose(valuesOf(loss), [8.3e-7, 8.3e-7, 8.3e-7], { absolute: 7e-8 });
  });

  describe.each(FLOATS)('linear + cross entropy in %s', (type) => {
    it.each([
      [1, 1, 1],
      [3, 5, 17],
      [17, 63, 5],
      [5, 12, 130],
    ])('%i rows of %i, %i words', (rows, dim, vocab) => {
      const random = new Random(dim);
      const h = normal(device, type, random, [rows, dim]);
      const w = normal(device, type, random, [vocab, dim], dim ** -0.5);
      const weights = normal(device, 'float32', random, [rows]);
      const targets = targetsOf(random, rows, vocab);
      const ids = tensor(device, 'int32', targets);
      const [fh, fw, by] = [h, w, weights].map(valuesOf);
      const losses = (a: Float64Array, b: Float64Array) => reference(logitsOf(a, b, dim), targets).loss;

      const forward = linearCrossEntropy(h, w, ids);
      // The logits are float32 in either type: sums of up to 63 products, then as above.
      expectClose(valuesOf(forward), losses(fh, fw), { absolute: 1e-5 }, 'loss');
      const before = random.normals(vocab * dim).map(Math.fround);
      const dw = tensor(device, 'float32', before, [vocab, dim]);
      const { loss, dh } = linearCrossEntropyWithGradient(h, w, ids, weights, dw);
      expectSameBytes(loss, forward, 'loss with gradient');
      // In bfloat16 the gradient of the logits is rounded, and so is dh.
      const tolerance = type === 'float32' ? 1e-5 : 2 ** -6;
      expectGradient((v) => dot(losses(v, fw), by), fh, valuesOf(dh), tolerance, 'dh');
      const added = valuesOf(dw).map((v, i) => v - before[i]);
      expectGradient((v) => dot(losses(fh, v), by), fw, added, tolerance, 'dw');

      // A frozen head: dh is the same.
      const frozen = linearCrossEntropyWithGradient(h, w, ids, weights, undefined);
      expectSameBytes(frozen.dh, dh, 'dh without dw');
      for (const t of [forward, loss, dh, frozen.loss, frozen.dh]) t.dispose();
    });

    it('rows of zeros behind those of the words change nothing, and get no gradient', () => {
      const random = new Random(7);
      const [rows, dim, vocab, words] = [37, 24, 53, 64];
      const h = normal(device, type, random, [rows, dim]);
      const w = normal(device, type, random, [vocab, dim], dim ** -0.5);
      const longer = tensor(
        device,
        type,
        [...valuesOf(w), ...Array((words - vocab) * dim).fill(0)],
        [words, dim],
      );
      const weights = normal(device, 'float32', random, [rows]);
      const ids = tensor(device, 'int32', targetsOf(random, rows, vocab));
      const [expected, actual] = [w, longer].map((table) => {
        const dw = tensor(device, 'float32', new Float32Array(table.size).fill(Number.NaN), table.shape);
        const result = linearCrossEntropyWithGradient(h, table, ids, weights, dw, {
          vocab,
          accumulate: false,
        });
        const alone = linearCrossEntropy(h, table, ids, vocab);
        expectSameBytes(alone, result.loss);
        const values = [result.loss, result.dh, dw].map(valuesOf);
        for (const t of [result.loss, result.dh, alone]) t.dispose();
        return values;
      });
      // A product of other sizes may sum in another order, and bfloat16 rounds that.
      const tolerance = { relative: 2 * ROUNDING[type], absolute: 1e-5 };
      expectClose(actual[0], expected[0], { absolute: 1e-5 }, 'loss');
      expectClose(actual[1], expected[1], tolerance, 'dh');
      expectClose(actual[2].subarray(0, vocab * dim), expected[2], tolerance, 'dw');
      expect(actual[2].subarray(vocab * dim).every((x) => x === 0)).toBe(true);
    });
  });

  it('a batch in chunks is the same as its parts', () => {
    const [rows, dim, vocab] = [4101, 2, 4096];
    expect(chunkRows(device, rows, vocab)).toBe(4096);
    const random = new Random(1);
    const h = normal(device, 'float32', random, [rows, dim]);
    const w = normal(device, 'float32', random, [vocab, dim]);
    const ids = tensor(device, 'int32', targetsOf(random, rows, vocab));
    const weights = normal(device, 'float32', random, [rows]);
    const gradients = (
      from: number,
      to: number,
      dw: Parameters<typeof linearCrossEntropyWithGradient>[4],
    ) => {
      const parts = [
        h.view([to - from, dim], from * dim),
        ids.view([to - from], from),
        weights.view([to - from], from),
      ];
      const result = linearCrossEntropyWithGradient(parts[0], w, parts[1], parts[2], dw);
      for (const t of parts) t.dispose();
      return result;
    };
    const zeros = new Float32Array(vocab * dim);
    const dw = tensor(device, 'float32', zeros, [vocab, dim]);
    const whole = gradients(0, rows, dw);
    const dwParts = tensor(device, 'float32', zeros, [vocab, dim]);
    const halves = [gradients(0, 2000, dwParts), gradients(2000, rows, dwParts)];
    const joined = (key: 'loss' | 'dh') => halves.flatMap((part) => [...valuesOf(part[key])]);
    // A GEMM may sum in another order when it has other rows: float32 sums of 4096 terms that add up to about 1, and
    // for dw of 4101 terms that add up to below 100.
    expectClose(valuesOf(whole.loss), joined('loss'), { relative: 1e-5 }, 'loss');
    expectClose(valuesOf(whole.dh), joined('dh'), { absolute: 2e-5 }, 'dh');
    expectClose(valuesOf(dw), valuesOf(dwParts), { absolute: 1e-4 }, 'dw');
    for (const part of [whole, ...halves]) for (const t of Object.values(part)) t.dispose();
  });

  itRefuses('few weights', device, 'cross_entropy: weights has 1 elements, needs 2', (d) => {
    const [logits, loss, one] = [4, 2, 1].map((n) => empty(d, 'float32', [n]));
    addon.ops.cross_entropy({
      loss,
      logits,
      targets: empty(d, 'int32', [2]),
      weights: one,
      rows: 2,
      vocab: 2,
    });
  });
  itRefuses(
    'sizes that wrap around',
    device,
    'cross_entropy: the sizes are too large: 1024 × 9007199254740992',
    (d) => {
      const [logits, loss] = [16, 1024].map((n) => empty(d, 'float32', [n]));
      addon.ops.cross_entropy({ loss, logits, targets: empty(d, 'int32', [16]), rows: 1024, vocab: 2 ** 53 });
    },
  );
};
