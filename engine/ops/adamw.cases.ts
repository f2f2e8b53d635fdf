import { expect, it } from 'vitest';
import {
  empty,
  expectClose,
  expectSameBytes,
  itRefuses,
  normal,
  type OpCases,
  Random,
  tensor,
  valuesOf,
  withThreads,
} from '../../tests/op_cases.js';
import { addon } from '../device/addon.js';

const [LR, BETA1, BETA2, EPS] = [1e-2, 0.9, 0.999, 1e-8];
const OPTIONS = { beta1: BETA1, beta2: BETA2, eps: EPS };

export const cases: OpCases = (device) => {
  const state = (n: number) => {
    const random = new Random(n);
    const [p, m, g] = [0, 1, 2].map(() => normal(device, 'float32', random, [n]));
    const v = tensor(
      device,
      'float32',
      random.normals(n).map((x) => x * x),
    );
    return { p, m, v, g };
  };

  it.each([1, 3, 17, 64, 65, 4097, 20001])('AdamW of %i elements', (n) => {
    for (const [step, decay, scale] of [
      [1, 0, 1],
      [7, 0.1, 0.25],
    ]) {
      const { p, m, v, g } = state(n);
      const [p0, m0, v0, g0] = [p, m, v, g].map(valuesOf);
      const rounded = empty(device, 'bfloat16', [n]);
      const given = tensor(device, 'float64', [step, LR, 1, scale]);
      addon.ops.adamw({ p, m, v, p16: rounded, g, update: given, n, ...OPTIONS, weight_decay: decay });
      const grad = g0.map((x) => x * scale);
      const m1 = m0.map((x, i) => BETA1 * x + (1 - BETA1) * grad[i]);
      const v1 = v0.map((x, i) => BETA2 * x + (1 - BETA2) * grad[i] ** 2);
      // At most four roundings in float32 for each.
      expectClose(valuesOf(m), m1, { absolute: 4 * 2 ** -24 * 4 }, 'm');
      expectClose(valuesOf(v), v1, { relative: 4 * 2 ** -24 }, 'v');
      const update = m1.map((x, i) => {
        const root = Math.sqrt(v1[i]) / Math.sqrt(1 - BETA2 ** step) + EPS;
        return ((LR / (1 - BETA1 ** step)) * x) / root;
      });
      const p1 = p0.map((x, i) => x * (1 - LR * decay) - update[i]);
      const tolerance = update.map((u, i) => 3 * 2 ** -24 * Math.abs(p0[i]) + 1e-6 * Math.abs(u) + 1e-8);
      valuesOf(p).forEach((x, i) => {
        if (!(Math.abs(x - p1[i]) <= tolerance[i]))
          expect.fail(`p[${i}] is ${x}, not ${p1[i]} ± ${tolerance[i]}`);
      });
      expectSameBytes(rounded, tensor(device, 'bfloat16', valuesOf(p)), 'the bfloat16 copy');
      expect([...valuesOf(g)]).toEqual([...g0]);

      // Without the copy, and with other threads: the very same numbers.
      const again = state(n);
      withThreads(3, () => addon.ops.adamw({ ...again, update: given, n, ...OPTIONS, weight_decay: decay }));
      for (const key of ['m', 'v'] as const) expectSameBytes(again[key], { m, v }[key], key);
      expectSameBytes(again.p, p, 'p without the copy');
    }
  });

  it.each([
    ['a norm', [1, LR, Number.NaN, 1]],
    ['a norm', [1, LR, Number.POSITIVE_INFINITY, 1]],
    ['a scale', [1, LR, 1, Number.NaN]],
  ])('changes nothing for %s that is not finite', (_, given) => {
    const { p, m, v, g } = state(65);
    const rounded = tensor(device, 'bfloat16', valuesOf(p));
    const before = [p, m, v, rounded].map(valuesOf);
    const update = tensor(device, 'float64', given);
    addon.ops.adamw({ p, m, v, p16: rounded, g, update, n: 65, ...OPTIONS, weight_decay: 0.1 });
    expect([p, m, v, rounded].map(valuesOf)).toEqual(before);
  });

  itRefuses('parameters in bfloat16', device, 'adamw: p is bfloat16, which it may not be', (d) => {
    const [x, update] = [empty(d, 'float32', [1]), empty(d, 'float64', [4])];
    const p = empty(d, 'bfloat16', [1]);
    addon.ops.adamw({ p, m: x, v: x, g: x, update, n: 1, ...OPTIONS, weight_decay: 0 });
  });
  itRefuses('a learning rate alone', device, 'adamw: update has 1 elements, needs 4', (d) => {
    const x = empty(d, 'float32', [1]);
    const update = empty(d, 'float64', [1]);
    addon.ops.adamw({ p: x, m: x, v: x, g: x, update, n: 1, ...OPTIONS, weight_decay: 0 });
  });
};
