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
  normal,
  type OpCases,
  Random,
  ROUNDING,
  tensor,
  valuesOf,
  withThreads,
} from '../../tests/op_cases.js';
import { addon } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';
import { linear, linearBackwardInput, linearBackwardWeight } from './linear.js';

/** C [m,n] = A [m,k] · B [k,n]. */
function product(a: Float64Array, b: Float64Array, m: number, n: number, k: number): Float64Array {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++)
    for (let p = 0; p < k; p++) {
      const x = a[i * k + p];
      for (let j = 0; j < n; j++) c[i * n + j] += x * b[p * n + j];
    }
  return c;
}

function transposed(x: Float64Array, rows: number, columns: number): Float64Array {
  return x.map((_, at) => x[(at % rows) * columns + Math.floor(at / rows)]);
}

const TYPES: { ab: FloatType; c: FloatType }[] = [
  { ab: 'float32', c: 'float32' },
  { ab: 'bfloat16', c: 'bfloat16' },
  { ab: 'bfloat16', c: 'float32' },
];

const BOTH = [false, true];
const ADDENDS = [undefined, 'C', 'another'] as const;

export const cases: OpCases = (device) => {
  // The last but one goes beyond one block of the CPU's GEMM in rows (144), columns (3072) and depth (256); of the last one
  // CUDA's takes tiles of 128 × 128, of the others 64 × 64.
  const sizes = [
    [1, 1, 1],
    [3, 5, 17],
    [1, 65, 300],
    [17, 1, 130],
    [5, 63, 3],
    [64, 64, 64],
    [65, 130, 63],
    [130, 17, 257],
    [16, 130, 600],
    [146, 3080, 260],
    [131, 8133, 40],
  ];
  it.each(sizes)('gemm [%i, %i] over %i, each transpose, type, and addend', (m, n, k) => {
    const random = new Random(m * n + k);
    // Values that bfloat16 holds: one reference serves every type.
    const a = valuesOf(normal(device, 'bfloat16', random, [m, k]));
    const b = valuesOf(normal(device, 'bfloat16', random, [k, n]));
    const before = valuesOf(normal(device, 'bfloat16', random, [m, n]));
    const expected = product(a, b, m, n, k);
    const added = expected.map((x, i) => x + before[i]);
    for (const transA of BOTH)
      for (const transB of BOTH) {
        // The largest take their time: one type for each way, and one way in float32.
        const large = m * n * k > 1e7;
        const taken: FloatType = transA === transB ? 'bfloat16' : 'float32';
        for (const type of TYPES) {
          if (large && (type.ab === 'float32' ? !(transA && transB) : type.c !== taken)) continue;
          const ta = tensor(device, type.ab, transA ? transposed(a, m, k) : a);
          const tb = tensor(device, type.ab, transB ? transposed(b, k, n) : b);
          for (const adds of large ? ADDENDS.slice(1) : ADDENDS) {
            const addend = adds && tensor(device, type.c, before);
            const c = adds === 'C' ? addend! : empty(device, type.c, [m, n]);
            addon.ops.gemm({ c, a: ta, b: tb, addend, m, n, k, trans_a: transA, trans_b: transB });
            // k roundings in float32 of sums of the size √k, which mostly cancel, and one of the result.
            const tolerance = { relative: ROUNDING[type.c], absolute: 4 * (k + 4) * ROUNDING.float32 };
            const name = `${type.ab}→${type.c}, added to ${adds ?? 'nothing'}`;
            expectClose(valuesOf(c), adds ? added : expected, tolerance, name);
            if (adds === 'another') expectSameBytes(addend!, tensor(device, type.c, before), 'the addend');
          }
        }
      }
  });

  it.each(TYPES)('a row of the built-in GEMM does not depend on how many there are: $ab→$c', (type) => {
    // oneDNN cuts its work up by the number of rows, cuBLASLt chooses its algorithm by it.
    const described = addon.describe(device, addon.dtypes[type.ab].code);
    if (!/built-in|computed in float32/.test(described)) return;
    const [n, k] = [133, 530];
    const random = new Random(11);
    const x = normal(device, type.ab, random, [150, k]);
    const w = normal(device, type.ab, random, [n, k]);
    const all = linear(x, w, { into: empty(device, type.c, [150, n]) });
    // Rows that take panels of w one by one, as many as may, and one more.
    for (const m of [2, 5, 16, 72, 73])
      for (const threads of [1, 3]) {
        const [first, expected] = [x.view([m, k]), all.view([m, n])];
        const few = withThreads(threads, () => linear(first, w, { into: empty(device, type.c, [m, n]) }));
        expectSameBytes(few, expected, `${m} rows`);
        for (const t of [first, expected]) t.dispose();
      }
  });

  it('gemm of nothing: a sum over no terms is 0, and adds nothing', () => {
    for (const type of TYPES) {
      const none = empty(device, type.ab, [0]);
      const c = tensor(device, type.c, [1, 2, 3, 4, 5, 6]);
      addon.ops.gemm({
        c,
        a: none,
        b: none,
        addend: c,
        m: 2,
        n: 3,
        k: 0,
        trans_a: false,
        trans_b: true,
      });
      expect([...valuesOf(c)]).toEqual([1, 2, 3, 4, 5, 6]);
      addon.ops.gemm({
        c,
        a: none,
        b: none,
        addend: tensor(device, type.c, [6, 5, 4, 3, 2, 1]),
        m: 2,
        n: 3,
        k: 0,
        trans_a: false,
        trans_b: true,
      });
      expect([...valuesOf(c)]).toEqual([6, 5, 4, 3, 2, 1]);
      addon.ops.gemm({
        c,
        a: none,
        b: none,
        m: 2,
        n: 3,
        k: 0,
        trans_a: false,
        trans_b: true,
      });
      expect([...valuesOf(c)]).toEqual([0, 0, 0, 0, 0, 0]);
      addon.ops.gemm({
        c: none,
        a: none,
        b: tensor(device, type.ab, [1, 2]),
        m: 0,
        n: 1,
        k: 2,
        trans_a: false,
        trans_b: true,
      });
    }
  });

  it('gemm keeps what is not a number', () => {
    for (const { ab, c: ct } of TYPES) {
      const c = empty(device, ct, [2, 2]);
      const a = tensor(device, ab, [1, Number.NaN, 1, 1]);
      addon.ops.gemm({
        c,
        a,
        b: tensor(device, ab, [1, 0, 0, Infinity]),
        m: 2,
        n: 2,
        k: 2,
        trans_a: false,
        trans_b: false,
      });
      expect([...valuesOf(c)].map((x) => Number.isFinite(x))).toEqual([false, false, true, false]);
    }
  });

  describe.each(FLOATS)('%s', (type) => {
    // float32: sums of up to 63 terms. bfloat16: a gradient in it is rounded once.
    const tolerance = type === 'float32' ? 1e-5 : 2 ** -7;

    it('linear and its gradients', () => {
      const random = new Random(1);
      const [rows, inner, out] = [17, 63, 5];
      const x = normal(device, type, random, [rows, inner]);
      const w = normal(device, type, random, [out, inner]);
      const dy = normal(device, type, random, [rows, out]);
      const [fx, fw, fdy] = [x, w, dy].map(valuesOf);
      const y = (a: Float64Array, b: Float64Array) => product(a, transposed(b, out, inner), rows, out, inner);

      const result = linear(x, w);
      expect(result.shape).toEqual([rows, out]);
      expectClose(valuesOf(result), y(fx, fw), { relative: ROUNDING[type], absolute: 1e-5 });
      const addend = normal(device, type, random, [rows, out]);
      const sum = linear(x, w, { addend });
      const added = y(fx, fw).map((value, i) => value + valuesOf(addend)[i]);
      expectClose(valuesOf(sum), added, { relative: ROUNDING[type], absolute: 1e-5 });
      const dx = linearBackwardInput(dy, w);
      expectGradient((v) => dot(y(v, fw), fdy), fx, valuesOf(dx), tolerance, 'dx');
      const before = random.normals(out * inner);
      const dw = tensor(device, 'float32', before, [out, inner]);
      linearBackwardWeight(dw, dy, x);
      const dwAdded = valuesOf(dw).map((value, i) => value - Math.fround(before[i]));
      expectGradient((v) => dot(y(fx, v), fdy), fw, dwAdded, 1e-5, 'dw');
      if (type === 'bfloat16') {
        // A gradient of the operands' type, from 0 on so that the one rounding is that of the gradient.
        const narrow = tensor(device, type, new Float32Array(out * inner), [out, inner]);
        linearBackwardWeight(narrow, dy, x);
        expectGradient((v) => dot(y(fx, v), fdy), fw, valuesOf(narrow), tolerance, 'dw in bfloat16');
      }
      for (const t of [result, sum, dx]) t.dispose();
    });

    it('refuses shapes that do not fit', () => {
      const x = empty(device, type, [3, 5]);
      const w = empty(device, type, [2, 4]);
      expect(() => linear(x, w)).toThrow('linear: [3,5] and w [2,4] do not fit');
      expect(() => linearBackwardInput(x, w)).toThrow('linearBackwardInput: [3,5] and w [2,4] do not fit');
      const dw = empty(device, 'float32', [2, 4]);
      expect(() => linearBackwardWeight(dw, x, x)).toThrow(
        'linearBackwardWeight: dy [3,5], x [3,5] and dw [2,4] do not fit',
      );
    });
  });

  it.each([1, 2, 31, 32, 33, 95])('%d rows with room behind them give what they give without', (rows) => {
    const random = new Random(rows);
    const [inner, out, half] = [48, 80, rows >> 1];
    // What an earlier tensor left in the arena must not matter, least of all where rows are summed over.
    const earlier = NativeTensor.matrix(device, 'float32', [4 * rows + 256, inner + out]);
    addon.ops.fill({ y: earlier, n: earlier.size, value: Number.NaN });
    earlier.dispose();
    const w = normal(device, 'bfloat16', random, [out, inner]);
    const [x, dy] = [inner, out].map((columns) => normal(device, 'bfloat16', random, [rows, columns]));
    const roomy = [x, dy].map((t) => {
      const copy = t.like();
      addon.ops.cast({ y: copy, x: t, n: t.size });
      return copy;
    });

    const results = [[x, dy], roomy].map(([x, dy]) => {
      const last = x.view([rows - half, inner], half * inner);
      const into = (shape: number[]) => (x === roomy[0] ? undefined : empty(device, 'bfloat16', shape));
      const y = [
        linear(x, w, { into: into([rows, out]) }),
        linear(last, w, { into: into([rows - half, out]) }),
        linearBackwardInput(dy, w, into([rows, inner])),
        linear(x, w, { into: into([rows, out]), addend: dy }),
      ];
      const dw = tensor(device, 'float32', new Float32Array(out * inner), [out, inner]);
      linearBackwardWeight(dw, dy, x);
      const values = [...y, dw].map(valuesOf);
      last.dispose();
      if (x === roomy[0]) for (const t of y) t.dispose();
      return values;
    });
    // Sums in another order at most: bfloat16 rounds them once, float32 sums of 95 terms are right to 1e-5.
    results[0].forEach((expected, i) => {
      const relative = i < 4 ? 2 * ROUNDING.bfloat16 : 1e-5;
      expectClose(results[1][i], expected, { relative, absolute: 1e-5 });
    });
    for (const t of roomy) t.dispose();
  });

  itRefuses('a matrix that is too small', device, 'gemm: a has 5 elements, needs 6', (d) =>
    addon.ops.gemm({
      c: empty(d, 'float32', [4]),
      a: empty(d, 'float32', [5]),
      b: empty(d, 'float32', [6]),
      m: 2,
      n: 2,
      k: 3,
      trans_a: false,
      trans_b: false,
    }),
  );
  itRefuses(
    'operands of two types',
    device,
    'gemm: a and b must have one type, not float32 and bfloat16',
    (d) =>
      addon.ops.gemm({
        c: empty(d, 'float32', [1]),
        a: empty(d, 'float32', [1]),
        b: empty(d, 'bfloat16', [1]),
        m: 1,
        n: 1,
        k: 1,
        trans_a: false,
        trans_b: false,
      }),
  );
  itRefuses(
    'an addend of another type',
    device,
    'gemm: c and addend must have one type, not float32 and bfloat16',
    (d) => {
      const a = empty(d, 'bfloat16', [1]);
      addon.ops.gemm({
        c: empty(d, 'float32', [1]),
        a,
        b: a,
        addend: a,
        m: 1,
        n: 1,
        k: 1,
        trans_a: false,
        trans_b: false,
      });
    },
  );
  itRefuses('an addend that is too small', device, 'gemm: addend has 1 elements, needs 2', (d) => {
    const a = empty(d, 'float32', [2]);
    addon.ops.gemm({
      c: a,
      a,
      b: a,
      addend: empty(d, 'float32', [1]),
      m: 2,
      n: 1,
      k: 1,
      trans_a: false,
      trans_b: false,
    });
  });
  itRefuses('a type it does not multiply', device, 'gemm: a is int32, which it may not be', (d) =>
    addon.ops.gemm({
      c: empty(d, 'float32', [1]),
      a: empty(d, 'int32', [1]),
      b: empty(d, 'int32', [1]),
      m: 1,
      n: 1,
      k: 1,
      trans_a: false,
      trans_b: false,
    }),
  );
  itRefuses(
    'a bfloat16 result of float32 operands',
    device,
    'gemm: float32 operands need a float32 result',
    (d) => {
      const a = empty(d, 'float32', [4]);
      addon.ops.gemm({
        c: empty(d, 'bfloat16', [4]),
        a,
        b: a,
        m: 2,
        n: 2,
        k: 2,
        trans_a: false,
        trans_b: false,
      });
    },
  );
  itRefuses(
    'sizes that wrap around',
    device,
    'gemm: the sizes are too large: 4294967296 × 4294967296',
    (d) => {
      const a = empty(d, 'float32', [16]);
      addon.ops.gemm({
        c: a,
        a,
        b: a,
        m: 2 ** 32,
        n: 2 ** 32,
        k: 2 ** 32,
        trans_a: false,
        trans_b: false,
      });
    },
  );
};
