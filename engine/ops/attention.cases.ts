import { describe, expect, it } from 'vitest';
import {
  alignTensors,
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
  cachedAttention,
  type Documents,
  documentsFrom,
  type Heads,
  type HostDocuments,
  spans,
  wholeDocuments,
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

/**
 * dqkv of dout, from the formulas of softmax's gradient: with p the probabilities and delta = Σ out·dout, of each score
 * ds = p·(dout·v − delta), and dv = Σ p·dout, dq = Σ ds·k, dk = Σ ds·q.
 */
function referenceGradient(
  qkv: Float64Array,
  dout: Float64Array,
  lengths: number[],
  { heads, kvHeads, headDim: d }: Heads,
): Float64Array {
  const stride = (heads + 2 * kvHeads) * d;
  const scale = 1 / Math.sqrt(d);
  const { out, lse } = reference(qkv, lengths, { heads, kvHeads, headDim: d });
  const tokens = qkv.length / stride;
  const dqkv = new Float64Array(qkv.length);
  const row = (a: Float64Array, at: number) => a.subarray(at, at + d);
  const product = (x: Float64Array, y: Float64Array) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  const add = (to: Float64Array, weight: number, x: Float64Array) => {
    for (let i = 0; i < d; i++) to[i] += weight * x[i];
  };
  let start = 0;
  for (const n of lengths) {
    for (let h = 0; h < heads; h++) {
      const kAt = (heads + Math.floor((h * kvHeads) / heads)) * d;
      const vAt = kAt + kvHeads * d;
      for (let t = start; t < start + n; t++) {
        const q = row(qkv, t * stride + h * d);
        const g = row(dout, (t * heads + h) * d);
        const delta = product(g, row(out, (t * heads + h) * d));
        for (let s = start; s <= t; s++) {
          const k = row(qkv, s * stride + kAt);
          const p = Math.exp(product(q, k) * scale - lse[h * tokens + t]);
          const ds = p * (product(g, row(qkv, s * stride + vAt)) - delta) * scale;
          add(row(dqkv, t * stride + h * d), ds, k);
          add(row(dqkv, s * stride + kAt), ds, q);
          add(row(dqkv, s * stride + vAt), p, g);
        }
      }
    }
    start += n;
  }
  return dqkv;
}

/** On a device, between borders. */
const onDevice = (device: DeviceName, host: HostDocuments): Documents =>
  documentsFrom(
    host,
    host.arrays.map((values) => tensor(device, 'int32', values)),
  );
const documentsOf = (device: DeviceName, lengths: number[]) => onDevice(device, wholeDocuments(lengths));

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

/**
 * In bfloat16 the result is rounded, out was, which moves delta, and a kernel may round p and ds before they meet dout, q
 * and k: each by 2⁻⁹ at most, in sums whose terms are as large as the largest elements.
 */
function gradientTolerance(type: FloatType, gradient: Float64Array) {
  return {
    relative: ROUNDING[type],
    absolute: (type === 'float32' ? 4e-6 : ROUNDING.bfloat16) * maxAbs(gradient),
  };
}

/** Attention of packed rows and its gradient, each element against the formulas. */
function againstReference(device: DeviceName, type: FloatType, z: Heads, lengths: number[]) {
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
  const gradient = valuesOf(dqkv);
  expectClose(
    gradient,
    referenceGradient(fqkv, fdout, lengths, z),
    gradientTolerance(type, gradient),
    'dqkv',
  );
  for (const t of [out, lse, dqkv]) t.dispose();
  return { fqkv, fdout, gradient };
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
      // Of 128 by a card's tensor cores, of 64 by the kernels for what is not aligned.
      if (z.headDim === 128) alignTensors();
      const { fqkv, fdout, gradient } = againstReference(device, type, z, lengths);
      // In bfloat16, out is rounded when it comes back for Σ out·dout, and so is the result; scores may be as well.
      expectGradient(
        (x) => dot(reference(x, lengths, z).out, fdout),
        fqkv,
        gradient,
        type === 'float32' ? 1e-5 : 2 ** -6,
      );
    });

    // Regions of a cache as decoding leaves them: room behind each text, in any order.
    const inCache = [
      { tokens: 1, keys: { start: 90, length: 130 } },
      { tokens: 3, keys: { start: 3, length: 3 } },
      { tokens: 65, keys: { start: 240, length: 70 } },
      { tokens: 2, keys: { start: 20, length: 65 } },
      { tokens: 3, keys: { start: 310, length: 33 } },
      { tokens: 0, keys: { start: 0, length: 0 } },
      { tokens: 1, keys: { start: 85, length: 1 } },
    ];

    it.each([
      [heads(4, 2, 12), inCache],
      [heads(3, 3, 64), inCache],
      [heads(2, 1, 80), inCache],
      [heads(2, 2, 96), inCache],
      [heads(2, 1, 128), inCache],
      [heads(8, 2, 6), [{ tokens: 1, keys: { start: 11, length: 64 } }]],
      [heads(1, 1, 2), [{ tokens: 64, keys: { start: 300, length: 64 } }]],
    ])('heads %o: the newest tokens of texts in a cache, %j', (z, documents) => {
      if (z.headDim > 64) alignTensors();
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
      const out = cachedAttention(withNaN, cache, onDevice(device, spans(documents)), z);
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

    it.each([12, 64])(
      'keys in a cache give what they give as the tokens of a batch, bit for bit: head_dim %i',
      (d) => {
        if (d === 64) alignTensors();
        const z = heads(4, 2, d);
        const lengths = [5, 70, 1];
        const qkv = normal(device, type, new Random(5), [76, 8 * d]);
        const values = valuesOf(qkv);
        const cache = new Float64Array(200 * 4 * d).fill(Number.NaN);
        const starts = [150, 17, 3];
        let token = 0;
        lengths.forEach((n, j) => {
          for (let t = 0; t < n; t++, token++)
            cache.set(values.subarray((token * 8 + 4) * d, (token + 1) * 8 * d), (starts[j] + t) * 4 * d);
        });
        const documents = lengths.map((n, j) => ({ tokens: n, keys: { start: starts[j], length: n } }));
        const { out, lse } = attention(qkv, documentsOf(device, lengths), z);
        const cached = cachedAttention(
          qkv,
          tensor(device, type, cache, [200, 4 * d]),
          onDevice(device, spans(documents)),
          z,
        );
        expectSameBytes(cached, out);
        for (const t of [out, lse, cached]) t.dispose();
      },
    );

    it.each([6, 64])('large scores do not overflow: head_dim %i', (d) => {
      if (d === 64) alignTensors();
      const z = heads(1, 1, d);
      const qkv = normal(device, type, new Random(8), [66, 3 * d], 50);
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
      alignTensors();
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

    it.each([6, 64])('a document is the same alone and among others: head_dim %i', (d) => {
      if (d === 64) alignTensors();
      const z = heads(3, 1, d);
      const qkv = normal(device, type, new Random(10), [70, 5 * d]);
      const packed = attention(qkv, documentsOf(device, [3, 66, 1]), z);
      const rows = qkv.view([66, 5 * d], 3 * 5 * d);
      const alone = attention(rows, documentsOf(device, [66]), z);
      const among = packed.out.view([66, 3 * d], 3 * 3 * d);
      expectSameBytes(alone.out, among);
      for (const t of [rows, among, packed.out, packed.lse, alone.out, alone.lse]) t.dispose();
    });
  });

  // What a card's tensor cores do: bfloat16, these head_dims, aligned. Lengths are around the sizes of its tiles.
  it.each([
    { z: heads(2, 1, 64), lengths: [63, 1, 130] },
    { z: heads(3, 1, 64), lengths: [33] },
    { z: heads(1, 1, 80), lengths: [64, 129] },
    { z: heads(2, 1, 80), lengths: [0, 31, 65] },
    { z: heads(2, 2, 96), lengths: [130, 1] },
    { z: heads(3, 1, 96), lengths: [32, 17] },
    { z: heads(2, 1, 128), lengths: [65, 0, 128] },
    { z: heads(4, 2, 128), lengths: [2, 64] },
  ])('tiles of heads $z.heads/$z.kvHeads of $z.headDim, documents of $lengths tokens', ({ z, lengths }) => {
    alignTensors();
    againstReference(device, 'bfloat16', z, lengths);
  });

  const run = (d: DeviceName, { z = heads(2, 1, 6), lengths = [2, 3] }) => {
    const { out, lse } = attention(empty(d, 'float32', [5, 4 * 6]), documentsOf(d, lengths), z);
    out.dispose();
    lse.dispose();
  };
  itRefuses('heads that do not fit the rows', device, 'rows of qkv have 24 elements, not (3 + 2·1)·6', (d) =>
    run(d, { z: heads(3, 1, 6) }),
  );
  itRefuses('heads that cannot be shared', device, '3 heads cannot share 2 key/value heads', (d) => {
    const qkv = empty(d, 'float32', [1, 14]);
    attention(qkv, documentsOf(d, [1]), heads(3, 2, 2));
  });
  itRefuses('documents beyond the tokens', device, 'documents of 6 tokens', (d) =>
    run(d, { lengths: [2, 4] }),
  );
  itRefuses('tokens that are in no document', device, 'documents of 4 tokens', (d) =>
    run(d, { lengths: [2, 2] }),
  );
  itRefuses(
    'keys beyond the cache',
    device,
    'with keys in 4 rows, do not make up the 1 rows of qkv, and 3 of',
    (d) => {
      const [qkv, cache] = [empty(d, 'float32', [1, 12]), empty(d, 'float32', [3, 8])];
      const documents = onDevice(d, spans([{ tokens: 1, keys: { start: 1, length: 3 } }]));
      cachedAttention(qkv, cache, documents, heads(1, 1, 4));
    },
  );
  it.each([
    ['fewer keys than tokens', { tokens: 2, keys: { start: 0, length: 1 } }],
    ['keys before the first row', { tokens: 1, keys: { start: -1, length: 1 } }],
    ['a negative number of tokens', { tokens: -1, keys: { start: 0, length: 1 } }],
  ])('refuses %s', (_, span) => {
    expect(() => spans([{ tokens: 1, keys: { start: 0, length: 1 } }, span])).toThrow(
      'attention: document 1 has',
    );
  });

  const cached = (d: DeviceName, { lengths = [3], kvStride = 4 }) => {
    const [q, k, v] = [1, 3, 3].map((rows) => empty(d, 'float32', [rows * 4]));
    const [offsets, starts, counts] = [[0, 1], [0], lengths].map((x) => tensor(d, 'int32', x));
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
      max_k: 3,
      pairs: 3,
      scale: 0.5,
    });
  };
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
