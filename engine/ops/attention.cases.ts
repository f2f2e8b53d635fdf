import { describe, expect, it } from 'vitest';
import {
  dot,
  empty,
  expectClose,
  expectGradient,
  expectSameBytes,
  FLOATS,
  type FloatType,
  itRefuses,
  maxAbs,
  normal,
  type OpCases,
  Random,
  ROUNDING,
  tensor,
  valuesOf,
  withThreads,
} from '../../tests/op_cases.js';
import { addon, type DeviceName } from '../device/addon.js';
import {
  attention,
  attentionBackward,
  type CachedDocument,
  cachedAttention,
  type Documents,
  type Heads,
} from './attention.js';

/** out = softmax(q·kᵀ·scale + mask)·v of one document; `at` finds element i of head h of row t. */
function oneDocument(
  z: Heads & { queries: number; keys: number },
  q: (t: number, h: number, i: number) => number,
  k: (t: number, h: number, i: number) => number,
  v: (t: number, h: number, i: number) => number,
  write: (t: number, h: number, out: Float64Array, lse: number) => void,
): void {
  for (let h = 0; h < z.heads; h++) {
    const kv = Math.floor((h * z.kvHeads) / z.heads);
    for (let t = 0; t < z.queries; t++) {
      const seen = t + 1 + z.keys - z.queries;
      const scores = new Float64Array(seen);
      for (let s = 0; s < seen; s++) {
        for (let i = 0; i < z.headDim; i++) scores[s] += q(t, h, i) * k(s, kv, i);
        scores[s] /= Math.sqrt(z.headDim);
      }
      const top = scores.reduce((a, b) => Math.max(a, b));
      const lse = top + Math.log(scores.reduce((sum, x) => sum + Math.exp(x - top), 0));
      const out = new Float64Array(z.headDim);
      for (let s = 0; s < seen; s++) {
        const p = Math.exp(scores[s] - lse);
        for (let i = 0; i < z.headDim; i++) out[i] += p * v(s, kv, i);
      }
      write(t, h, out, lse);
    }
  }
}

/** out [tokens, H·D] and lse [H, tokens] of packed rows q | k | v. */
function reference(qkv: Float64Array, lengths: number[], z: Heads): { out: Float64Array; lse: Float64Array } {
  const d = z.headDim;
  const stride = (z.heads + 2 * z.kvHeads) * d;
  const tokens = qkv.length / stride;
  const out = new Float64Array(tokens * z.heads * d);
  const lse = new Float64Array(z.heads * tokens);
  let start = 0;
  for (const n of lengths) {
    const from = start;
    const part = (offset: number) => (t: number, h: number, i: number) =>
      qkv[(from + t) * stride + (offset + h) * d + i];
    oneDocument(
      { ...z, queries: n, keys: n },
      part(0),
      part(z.heads),
      part(z.heads + z.kvHeads),
      (t, h, row, rowLse) => {
        out.set(row, ((from + t) * z.heads + h) * d);
        lse[h * tokens + from + t] = rowLse;
      },
    );
    start += n;
  }
  return { out, lse };
}

function documentsOf(device: DeviceName, lengths: number[]): Documents {
  const offsets = [0];
  for (const n of lengths) offsets.push(offsets.at(-1)! + n);
  const longest = Math.max(...lengths);
  return {
    offsets: tensor(device, 'int32', offsets),
    keys: { starts: tensor(device, 'int32', offsets), lengths: tensor(device, 'int32', lengths), longest },
    count: lengths.length,
    longest,
    pairs: lengths.reduce((sum, n) => sum + (n * (n + 1)) / 2, 0),
  };
}

function cachedOf(device: DeviceName, documents: CachedDocument[]): Documents {
  const keys = documents.map((document) => document.keys);
  return {
    ...documentsOf(
      device,
      documents.map(({ tokens }) => tokens),
    ),
    keys: {
      starts: tensor(
        device,
        'int32',
        keys.map(({ start }) => start),
      ),
      lengths: tensor(
        device,
        'int32',
        keys.map(({ length }) => length),
      ),
      longest: Math.max(...keys.map(({ length }) => length)),
    },
  };
}

const heads = (count: number, kvHeads: number, headDim: number): Heads => ({
  heads: count,
  kvHeads,
  headDim,
});

/**
 * In float32: scores of up to 128 products, exponentials of them, sums of up to 131 keys. In bfloat16 the result is
 * rounded, and a kernel may round the probabilities too before they meet v.
 */
function tolerance(type: FloatType, v: Float64Array) {
  return {
    relative: ROUNDING[type],
    absolute: (type === 'float32' ? 4e-6 : ROUNDING.bfloat16) * maxAbs(v),
  };
}

export const cases: OpCases = (device) => {
  describe.each(FLOATS)('%s', (type) => {
    it.each([
      { z: heads(1, 1, 2), lengths: [1] },
      { z: heads(4, 2, 8), lengths: [5, 1, 17] },
      { z: heads(6, 2, 12), lengths: [3, 63, 2] },
      { z: heads(5, 5, 6), lengths: [1, 65, 4] },
      { z: heads(32, 4, 2), lengths: [7, 0, 64] },
      { z: heads(2, 1, 48), lengths: [66, 1] },
      { z: heads(1, 1, 64), lengths: [130] },
      { z: heads(2, 2, 128), lengths: [65, 1, 3] },
    ])('heads $z.heads/$z.kvHeads of $z.headDim, documents of $lengths tokens', ({ z, lengths }) => {
      const random = new Random(z.headDim);
      const documents = documentsOf(device, lengths);
      const tokens = lengths.reduce((a, b) => a + b);
      const stride = (z.heads + 2 * z.kvHeads) * z.headDim;
      const qkv = normal(device, type, random, [tokens, stride]);
      const dout = normal(device, type, random, [tokens, z.heads * z.headDim]);
      const [fqkv, fdout] = [qkv, dout].map(valuesOf);

      const { out, lse } = attention(qkv, documents, z);
      const expected = reference(fqkv, lengths, z);
      expectClose(valuesOf(out), expected.out, tolerance(type, fqkv), 'out');
      expectClose(valuesOf(lse), expected.lse, { absolute: 1e-5 }, 'lse');

      const dqkv = attentionBackward(dout, { out, lse, qkv }, documents, z);
      // In bfloat16, out is rounded when it comes back for Σ out·dout, and so is the result; scores may be as well.
      expectGradient(
        (x) => dot(reference(x, lengths, z).out, fdout),
        fqkv,
        valuesOf(dqkv),
        type === 'float32' ? 1e-5 : 2 ** -6,
      );
      for (const t of [out, lse, dqkv]) t.dispose();
    });

    // Regions of a cache as decoding leaves them: room behind each text, in any order.
    const inCache = [
      { tokens: 1, keys: { start: 90, length: 130 } },
      { tokens: 3, keys: { start: 3, length: 3 } },
      { tokens: 65, keys: { start: 240, length: 70 } },
      { tokens: 2, keys: { start: 20, length: 65 } },
      { tokens: 0, keys: { start: 0, length: 0 } },
      { tokens: 1, keys: { start: 85, length: 1 } },
    ];

    it.each([
      [heads(4, 2, 12), inCache],
      [heads(3, 3, 64), inCache],
      [heads(2, 1, 128), inCache],
      [heads(8, 2, 6), [{ tokens: 1, keys: { start: 11, length: 64 } }]],
      [heads(1, 1, 2), [{ tokens: 64, keys: { start: 300, length: 64 } }]],
    ])('heads %o: the newest tokens of texts in a cache, %j', (z, documents) => {
      const random = new Random(4);
      const tokens = documents.reduce((sum, document) => sum + document.tokens, 0);
      const width = 2 * z.kvHeads * z.headDim;
      const qkv = normal(device, type, random, [tokens, z.heads * z.headDim + width]);
      const values = random.normals(400 * width).fill(Number.NaN);
      // What is in no text is NaN, and so is what the rows of qkv hold behind q: none of it may be read.
      for (const { keys } of documents) values.set(random.normals(keys.length * width), keys.start * width);
      const cache = tensor(device, type, values, [400, width]);
      const fqkv = valuesOf(qkv);
      const fcache = valuesOf(cache);
      for (let t = 0; t < tokens; t++)
        fqkv.fill(Number.NaN, t * qkv.shape[1] + z.heads * z.headDim, (t + 1) * qkv.shape[1]);

      const expected = new Float64Array(tokens * z.heads * z.headDim);
      let first = 0;
      for (const { tokens: n, keys } of documents) {
        const from = first;
        const cached = (offset: number) => (t: number, h: number, i: number) =>
          fcache[(keys.start + t) * width + (offset + h) * z.headDim + i];
        oneDocument(
          { ...z, queries: n, keys: keys.length },
          (t, h, i) => fqkv[(from + t) * qkv.shape[1] + h * z.headDim + i],
          cached(0),
          cached(z.kvHeads),
          (t, h, row) => expected.set(row, ((from + t) * z.heads + h) * z.headDim),
        );
        first += n;
      }
      const withNaN = tensor(device, type, fqkv, qkv.shape);
      const out = cachedAttention(withNaN, cache, cachedOf(device, documents), z);
      expectClose(
        valuesOf(out),
        expected,
        tolerance(
          type,
          fcache.filter((x) => !Number.isNaN(x)),
        ),
      );
      out.dispose();
    });

    it('keys in a cache give what they give as the tokens of a batch, bit for bit', () => {
      const z = heads(4, 2, 12);
      const lengths = [5, 70, 1];
      const qkv = normal(device, type, new Random(5), [76, 96]);
      const values = valuesOf(qkv);
      const cache = new Float64Array(200 * 48).fill(Number.NaN);
      const starts = [150, 17, 3];
      let token = 0;
      lengths.forEach((n, j) => {
        for (let t = 0; t < n; t++, token++)
          cache.set(values.subarray(token * 96 + 48, (token + 1) * 96), (starts[j] + t) * 48);
      });
      const documents = lengths.map((n, j) => ({ tokens: n, keys: { start: starts[j], length: n } }));
      const { out, lse } = attention(qkv, documentsOf(device, lengths), z);
      const cached = cachedAttention(
        qkv,
        tensor(device, type, cache, [200, 48]),
        cachedOf(device, documents),
        z,
      );
      expectSameBytes(cached, out);
      for (const t of [out, lse, cached]) t.dispose();
    });

    it('large scores do not overflow', () => {
      const z = heads(1, 1, 6);
      const qkv = normal(device, type, new Random(8), [66, 18], 50);
      const { out, lse } = attention(qkv, documentsOf(device, [66]), z);
      const expected = reference(valuesOf(qkv), [66], z);
      // Scores of ±10⁴ in float32 are right to 10⁻³, and so is the logarithm of each probability.
      const scale = maxAbs(valuesOf(qkv));
      expect(maxAbs(expected.lse)).toBeGreaterThan(5000);
      expectClose(valuesOf(lse), expected.lse, { absolute: 4e-3 });
      expectClose(valuesOf(out), expected.out, { relative: ROUNDING[type], absolute: 8e-3 * scale });
      out.dispose();
      lse.dispose();
    });

    it('gives the same with any number of threads', () => {
      const z = heads(4, 2, 64);
      const random = new Random(9);
      const lengths = [30, 65, 1];
      const documents = documentsOf(device, lengths);
      const qkv = normal(device, type, random, [96, 512]);
      const run = () => {
        const { out, lse } = attention(qkv, documents, z);
        return { out, lse, dqkv: attentionBackward(out, { out, lse, qkv }, documents, z) };
      };
      const [one, two, three] = [1, 2, 3].map((threads) => withThreads(threads, run));
      for (const other of [two, three])
        for (const key of ['out', 'lse', 'dqkv'] as const) expectSameBytes(other[key], one[key], key);
      for (const { out, lse, dqkv } of [one, two, three]) for (const t of [out, lse, dqkv]) t.dispose();
    });

    it('a document is the same alone and among others', () => {
      const z = heads(3, 1, 6);
      const qkv = normal(device, type, new Random(10), [70, 30]);
      const packed = attention(qkv, documentsOf(device, [3, 66, 1]), z);
      const rows = qkv.view([66, 30], 3 * 30);
      const alone = attention(rows, documentsOf(device, [66]), z);
      const among = packed.out.view([66, 18], 3 * 18);
      expectSameBytes(alone.out, among);
      for (const t of [rows, among, packed.out, packed.lse, alone.out, alone.lse]) t.dispose();
    });
  });

  const run = (
    d: DeviceName,
    change: { heads?: Heads; offsets?: number[]; longest?: number; tokens?: number },
  ) => {
    const offsets = change.offsets ?? [0, 2, 5];
    const qkv = empty(d, 'float32', [change.tokens ?? 5, 4 * 6]);
    const documents = { ...documentsOf(d, [2, 3]), offsets: tensor(d, 'int32', offsets) };
    documents.longest = change.longest ?? documents.longest;
    const { out, lse } = attention(qkv, documents, change.heads ?? heads(2, 1, 6));
    out.dispose();
    lse.dispose();
  };
  const byValue = { byValue: true };
  itRefuses('heads that do not fit the rows', device, 'rows of qkv have 24 elements, not (3 + 2·1)·6', (d) =>
    run(d, { heads: heads(3, 1, 6) }),
  );
  itRefuses('heads that cannot be shared', device, '3 heads cannot share 2 key/value heads', (d) => {
    const qkv = empty(d, 'float32', [1, 14]);
    attention(qkv, documentsOf(d, [1]), heads(3, 2, 2));
  });
  itRefuses(
    'documents beyond the tokens',
    device,
    'q_offsets of document 1 are 2…6 of 5 tokens, at most 3 each',
    (d) => run(d, { offsets: [0, 2, 6] }),
    byValue,
  );
  itRefuses(
    'documents that run backwards',
    device,
    'q_offsets of document 1 are 2…1',
    (d) => run(d, { offsets: [0, 2, 1] }),
    byValue,
  );
  itRefuses(
    'a document that is longer than the longest',
    device,
    'q_offsets of document 1 are 2…5 of 5 tokens, at most 2 each',
    (d) => run(d, { longest: 2 }),
    byValue,
  );
  itRefuses(
    'tokens that are in no document',
    device,
    'q_offsets run from 0 to 4, not from 0 to the 5 tokens',
    (d) => run(d, { offsets: [0, 2, 4] }),
    byValue,
  );
  itRefuses('missing offsets', device, 'attention_forward: q_offsets has 2 elements, needs 3', (d) =>
    run(d, { offsets: [0, 2] }),
  );

  const cached = (
    d: DeviceName,
    { start = 0, lengths = [3] as readonly number[], kRows = 3, vRows = 3, kvStride = 4, longest = 3 },
  ) => {
    const [q, k, v] = [1, kRows, vRows].map((rows) => empty(d, 'float32', [rows * 4]));
    const [offsets, starts, counts] = [[0, 1], [start], lengths].map((x) => tensor(d, 'int32', x));
    addon.ops.attention_forward({
      out: empty(d, 'float32', [4]),
      q,
      k,
      v,
      q_offsets: offsets,
      k_starts: starts,
      k_lengths: counts,
      documents: 1,
      heads: 1,
      kv_heads: 1,
      head_dim: 4,
      q_stride: 4,
      kv_stride: kvStride,
      tokens: 1,
      max_q: 1,
      max_k: longest,
      pairs: 3,
      scale: 0.5,
    });
  };
  for (const [what, change, message] of [
    ['keys beyond the cache', { start: 1 }, '3 from row 1 on, of 3 rows, at most 3 each'],
    ['a cache that is too short', { kRows: 2 }, '3 from row 0 on, of 2 rows'],
    ['values that are fewer than the keys', { vRows: 2 }, '3 from row 0 on, of 2 rows'],
    ['keys before the cache', { start: -1 }, '3 from row -1 on'],
    ['a negative number of keys', { lengths: [-1] }, '-1 from row 0 on'],
    ['more keys than the most', { longest: 2 }, '3 from row 0 on, of 3 rows, at most 2 each'],
  ] as const)
    itRefuses(what, device, `the keys of document 0 are ${message}`, (d) => cached(d, change), byValue);
  itRefuses(
    'fewer keys than queries',
    device,
    'document 0 has 1 queries, but 0 keys',
    (d) => cached(d, { lengths: [0] }),
    byValue,
  );
  itRefuses('missing lengths', device, 'attention_forward: k_lengths has 0 elements, needs 1', (d) =>
    cached(d, { lengths: [] }),
  );
  itRefuses(
    'rows that cannot hold the heads',
    device,
    'rows of 4 and 3 elements cannot hold the heads',
    (d) => cached(d, { kvStride: 3 }),
  );
  itRefuses('sizes that wrap around', device, 'attention_forward: the sizes are too large', (d) => {
    const x = empty(d, 'float32', [16]);
    const offsets = tensor(d, 'int32', [0, 1]);
    const huge = 2 ** 32;
    addon.ops.attention_forward({
      out: x,
      q: x,
      k: x,
      v: x,
      q_offsets: offsets,
      k_starts: offsets,
      k_lengths: offsets,
      documents: 1,
      heads: huge,
      kv_heads: huge,
      head_dim: huge,
      q_stride: huge,
      kv_stride: huge,
      tokens: huge,
      max_q: 1,
      max_k: 1,
      pairs: 1,
      scale: 1,
    });
  });
};
