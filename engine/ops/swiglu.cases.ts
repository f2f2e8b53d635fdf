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
import { swiglu, swigluBackward, swigluBackwardInPlace } from './swiglu.js';

/** y = g / (1 + e⁻ᵍ) · u for the halves g | u of each row. */
function reference(gateUp: Float64Array, dim: number): Float64Array {
  return new Float64Array(gateUp.length / 2).map((_, at) => {
    const gate = Math.floor(at / dim) * 2 * dim + (at % dim);
    return (gateUp[gate] / (1 + Math.exp(-gateUp[gate]))) * gateUp[gate + dim];
  });
}

export const cases: OpCases = (device) => {
  describe.each(FLOATS)('%s', (type) => {
    // An exponential, a quotient and a product in float32; then one rounding to the type.
    const rounded = { relative: ROUNDING[type] + 5e-7 };

    it.each([
      [1, 1],
      [3, 5],
      [17, 3],
      [2, 63],
      [65, 17],
      [5, 64],
      [130, 130],
    ])('%i rows of %i', (rows, dim) => {
      const random = new Random(rows * dim);
      const gateUp = normal(device, type, random, [rows, 2 * dim], 3);
      const dy = normal(device, type, random, [rows, dim]);
      const [fx, fdy] = [gateUp, dy].map(valuesOf);
      const y = swiglu(gateUp);
      expectClose(valuesOf(y), reference(fx, dim), rounded, 'y');
      const dgateUp = swigluBackward(dy, gateUp);
      const tolerance = type === 'float32' ? 2e-6 : 2 ** -7;
      expectGradient((v) => dot(reference(v, dim), fdy), fx, valuesOf(dgateUp), tolerance);

      // In place, and with the forward value made again.
      const inPlace = swigluBackwardInPlace(dy, gateUp);
      expectSameBytes(inPlace.dgateUp, dgateUp, 'dgateUp in place');
      expectClose(valuesOf(inPlace.y), reference(fx, dim), rounded, 'y in place');
      for (const t of [y, dgateUp]) t.dispose();
    });

    it('gives the same with any number of threads', () => {
      const gateUp = normal(device, type, new Random(3), [65, 1000]);
      const [one, three] = [1, 3].map((threads) =>
        withThreads(threads, () => {
          const y = empty(device, type, [65, 500]);
          addon.ops.swiglu_forward({ y, gate_up: gateUp, rows: 65, dim: 500 });
          return y;
        }),
      );
      expectSameBytes(three, one);
    });
  });

  it('follows the exponential over its whole range', () => {
    // 2 × 87.3 / 0.013 gates: where e⁻ᵍ is a normal float, and 1 + e⁻ᵍ does not overflow.
    const gates = Array.from({ length: 13431 }, (_, i) => -87.3 + i * 0.013);
    const dim = gates.length;
    const gateUp = tensor(device, 'float32', [...gates, ...gates.map(() => 1)]);
    const y = empty(device, 'float32', [dim]);
    addon.ops.swiglu_forward({ y, gate_up: gateUp, rows: 1, dim });
    // For very negative gates y is g·eᵍ: the relative error is the exponential's own, 2 to 3 units in the last place.
    const expected = reference(valuesOf(gateUp), dim);
    expectClose(valuesOf(y), expected, { relative: 4e-7 });
  });

  it('saturates beyond that range', () => {
    const gates = [-88, -90, -104, -1000, 88, 90, 104, 1000, 1e30];
    const dim = gates.length;
    const y = empty(device, 'float32', [dim]);
    addon.ops.swiglu_forward({
      y,
      gate_up: tensor(device, 'float32', [...gates, ...gates.map(() => 1)]),
      rows: 1,
      dim,
    });
    // e⁸⁸·³⁷ stands for what is larger: g·eᵍ comes out below 1e-35 instead of below 1e-36 or 0.
    expectClose(valuesOf(y), [0, 0, 0, 0, 88, 90, 104, 1000, Math.fround(1e30)], { absolute: 1e-35 });
  });

  it('keeps what is not a number', () => {
    const y = empty(device, 'float32', [2]);
    addon.ops.swiglu_forward({
      y,
      gate_up: tensor(device, 'float32', [Number.NaN, 1, 1, Number.NaN]),
      rows: 1,
      dim: 2,
    });
    expect([...valuesOf(y)]).toEqual([Number.NaN, Number.NaN]);
  });

  itRefuses('a half', device, 'swiglu_forward: gate_up has 5 elements, needs 6', (d) =>
    addon.ops.swiglu_forward({
      y: empty(d, 'float32', [3]),
      gate_up: empty(d, 'float32', [5]),
      rows: 1,
      dim: 3,
    }),
  );
  itRefuses('two types', device, 'swiglu_backward: dy and gate_up must have one type', (d) => {
    const gateUp = empty(d, 'float32', [6]);
    addon.ops.swiglu_backward({
      dgate_up: gateUp,
      dy: empty(d, 'bfloat16', [3]),
      gate_up: gateUp,
      rows: 1,
      dim: 3,
    });
  });
  itRefuses(
    'sizes that wrap around',
    device,
    'swiglu_forward: the sizes are too large: 4294967296 × 4294967296',
    (d) =>
      addon.ops.swiglu_forward({
        y: empty(d, 'float32', [16]),
        gate_up: empty(d, 'float32', [16]),
        rows: 2 ** 32,
        dim: 2 ** 32,
      }),
  );
};
