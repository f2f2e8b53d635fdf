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
import { rmsnorm, rmsnormBackward } from './rmsnorm.js';

const EPS = 1e-5;

/** y = x / √(mean(x²) + eps) · w. */
function reference(x: Float64Array, w: Float64Array): Float64Array {
  const dim = w.length;
  const y = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += dim) {
    const row = x.subarray(start, start + dim);
    const scale = 1 / Math.sqrt(dot(row, row) / dim + EPS);
    for (let i = 0; i < dim; i++) y[start + i] = row[i] * scale * w[i];
  }
  return y;
}

export const cases: OpCases = (device) => {
  describe.each(FLOATS)('%s', (type) => {
    // Over 17 × 1024 elements the work is shared out among threads.
    const sizes = [
      [1, 1],
      [3, 5],
      [17, 3],
      [5, 17],
      [2, 63],
      [65, 64],
      [3, 130],
      [17, 1025],
    ];
    // The mean of squares, a root, and two products in float32; then one rounding to the type.
    const rounded = { relative: ROUNDING[type] + 1e-6 };

    it.each(sizes)('%i rows of %i', (rows, dim) => {
      const random = new Random(rows + dim);
      const shape = [rows, dim];
      const x = normal(device, type, random, shape);
      const w = normal(device, type, random, [dim]);
      const dy = normal(device, type, random, shape);
      const dresidual = normal(device, type, random, shape);
      const [fx, fw, fdy, fdresidual] = [x, w, dy, dresidual].map(valuesOf);

      const y = empty(device, type, shape);
      const rstd = empty(device, 'float32', [rows]);
      addon.ops.rmsnorm_forward({ y, rstd, x, w, rows, dim, eps: EPS });
      expectClose(valuesOf(y), reference(fx, fw), rounded, 'y');

      // Gradients are rounded once.
      const tolerance = type === 'float32' ? 1e-5 : 2 ** -7;
      const dx = empty(device, type, shape);
      // Values that bfloat16 holds, for gradients of both types.
      const before = valuesOf(normal(device, 'bfloat16', random, [dim]));
      const dw = tensor(device, 'float32', before);
      addon.ops.rmsnorm_backward({ dx, dw, dy, x, w, rstd, rows, dim });
      expectGradient((v) => dot(reference(v, fw), fdy), fx, valuesOf(dx), tolerance, 'dx');
      const dwAdded = valuesOf(dw).map((v, i) => v - before[i]);
      expectGradient((v) => dot(reference(fx, v), fdy), fw, dwAdded, 1e-5, 'dw');
      const narrow = tensor(device, 'bfloat16', before);
      addon.ops.rmsnorm_backward({ dx, dw: narrow, dy, x, w, rstd, rows, dim });
      expectSameBytes(narrow, tensor(device, 'bfloat16', valuesOf(dw)), 'dw, rounded once to bfloat16');

      addon.ops.rmsnorm_backward({ dx, dy, x, w, rstd, dresidual, rows, dim });
      const loss = (v: Float64Array) => dot(reference(v, fw), fdy) + dot(v, fdresidual);
      expectGradient(loss, fx, valuesOf(dx), tolerance, 'dx with dresidual');
    });

    it('gives the same with any number of threads, up to the order in which dw is summed', () => {
      const random = new Random(5);
      const [rows, dim] = [131, 130];
      const x = normal(device, type, random, [rows, dim]);
      const w = normal(device, type, random, [dim]);
      const run = () => {
        const y = empty(device, type, [rows, dim]);
        const rstd = empty(device, 'float32', [rows]);
        addon.ops.rmsnorm_forward({ y, rstd, x, w, rows, dim, eps: EPS });
        const dx = empty(device, type, [rows, dim]);
        const dw = tensor(device, 'float32', new Float32Array(dim));
        addon.ops.rmsnorm_backward({ dx, dw, dy: y, x, w, rstd, rows, dim });
        return { y, rstd, dx, dw };
      };
      const [one, three] = [1, 3].map((threads) => withThreads(threads, run));
      expectSameBytes(three.y, one.y, 'y');
      expectSameBytes(three.rstd, one.rstd, 'rstd');
      expectSameBytes(three.dx, one.dx, 'dx');
      // Sums of 131 terms of order 1 in float32.
      expectClose(valuesOf(three.dw), valuesOf(one.dw), { relative: 1e-5, absolute: 1e-4 }, 'dw');
    });

    it('the explicit form', () => {
      const random = new Random(6);
      const x = normal(device, type, random, [3, 5]);
      const w = normal(device, type, random, [5]);
      const plain = rmsnorm(x, w, EPS);
      expectClose(valuesOf(plain.y), reference(valuesOf(x), valuesOf(w)), rounded);
      const dx = rmsnormBackward(x, x, w, plain.rstd);
      const loss = (v: Float64Array) => dot(reference(v, valuesOf(w)), valuesOf(x));
      expectGradient(loss, valuesOf(x), valuesOf(dx), type === 'float32' ? 1e-5 : 2 ** -7);
      for (const t of [plain.y, plain.rstd, dx]) t.dispose();
      expect(() => rmsnorm(x, x, EPS)).toThrow('rmsnorm: x [3,5] and w [3,5] do not fit');
    });
  });

  it('a row of zeros stays zeros, and its gradient is finite', () => {
    const zero = tensor(device, 'float32', [0, 0, 0]);
    const w = tensor(device, 'float32', [1, 2, 3]);
    const y = empty(device, 'float32', [3]);
    const rstd = empty(device, 'float32', [1]);
    addon.ops.rmsnorm_forward({ y, rstd, x: zero, w, rows: 1, dim: 3, eps: EPS });
    expect([...valuesOf(y)]).toEqual([0, 0, 0]);
    expectClose(valuesOf(rstd), [1 / Math.sqrt(EPS)], { relative: 1e-6 });
    const dx = empty(device, 'float32', [3]);
    addon.ops.rmsnorm_backward({ dx, dy: w, x: zero, w, rstd, rows: 1, dim: 3 });
    expectClose(
      valuesOf(dx),
      [1, 4, 9].map((v) => v / Math.sqrt(EPS)),
      { relative: 1e-6 },
    );
  });

  itRefuses('a short row', device, 'rmsnorm_forward: w has 4 elements, needs 5', (d) => {
    const x = empty(d, 'float32', [5]);
    addon.ops.rmsnorm_forward({ y: x, rstd: x, x, w: empty(d, 'float32', [4]), rows: 1, dim: 5, eps: EPS });
  });
  itRefuses(
    'a weight of another type',
    device,
    'rmsnorm_forward: x and w must have one type, not float32 and bfloat16',
    (d) => {
      const x = empty(d, 'float32', [5]);
      addon.ops.rmsnorm_forward({
        y: x,
        rstd: x,
        x,
        w: empty(d, 'bfloat16', [5]),
        rows: 1,
        dim: 5,
        eps: EPS,
      });
    },
  );
  itRefuses(
    'sizes that wrap around',
    device,
    'rmsnorm_forward: the sizes are too large: 4294967296 × 4294967296',
    (d) => {
      const x = empty(d, 'float32', [16]);
      addon.ops.rmsnorm_forward({ y: x, rstd: x, x, w: x, rows: 2 ** 32, dim: 2 ** 32, eps: EPS });
    },
  );
};
