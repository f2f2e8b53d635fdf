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
      const half = empty(device, 'bfloat16', [n]);
      addon.ops.adamw({
        p,
        m,
        v,
        p16: half,
        g,
        n,
        step,
        lr: LR,
        beta1: BETA1,
        beta2: BETA2,
        eps: EPS,
        weight_decay: decay,
        grad_scale: scale,
      });
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
      expectSameBytes(half, tensor(device, 'bfloat16', valuesOf(p)), 'the bfloat16 copy');
      expect([...valuesOf(g)]).toEqual([...g0]);

      // Without the copy, and with other threads: the very same numbers.
      const again = state(n);
      withThreads(3, () =>
        addon.ops.adamw({
          p: again.p,
          m: again.m,
          v: again.v,
          g: again.g,
          n,
          step,
          lr: LR,
          beta1: BETA1,
          beta2: BETA2,
          eps: EPS,
          weight_decay: decay,
          grad_scale: scale,
        }),
      );
      for (const key of ['m', 'v'] as const) expectSameBytes(again[key], { m, v }[key], key);
      expectSameBytes(again.p, p, 'p without the copy');
    }
  });

  itRefuses('step 0', device, 'adamw: step counts from 1', (d) => {
    const x = empty(d, 'float32', [1]);
    addon.ops.adamw({
      p: x,
      m: x,
      v: x,
      g: x,
      n: 1,
      step: 0,
      lr: LR,
      beta1: BETA1,
      beta2: BETA2,
      eps: EPS,
      weight_decay: 0,
      grad_scale: 1,
    });
  });
  itRefuses('parameters in bfloat16', device, 'adamw: p is bfloat16, which it may not be', (d) => {
    const x = empty(d, 'float32', [1]);
    addon.ops.adamw({
      p: empty(d, 'bfloat16', [1]),
      m: x,
      v: x,
      g: x,
      n: 1,
      step: 1,
      lr: LR,
      beta1: BETA1,
      beta2: BETA2,
      eps: EPS,
      weight_decay: 0,
      grad_scale: 1,
    });
  });
};
