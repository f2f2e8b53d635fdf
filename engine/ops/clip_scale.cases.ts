import { expect, it } from 'vitest';
import { empty, itRefuses, type OpCases, tensor, valuesOf } from '../../tests/op_cases.js';
import { addon } from '../device/addon.js';

export const cases: OpCases = (device) => {
  const run = (squares: number, losses: number[] | undefined, maxNorm: number, scaleBefore = 0) => {
    const update = tensor(device, 'float64', [3, 1e-5, 0, scaleBefore]);
    const given = losses && tensor(device, 'float64', losses);
    addon.ops.clip_scale({
      update,
      squares: tensor(device, 'float64', [squares]),
      losses: given,
      n: losses?.length ?? 0,
      max_norm: maxNorm,
    });
    const [step, learningRate, norm, scale] = valuesOf(update);
    // The host's part stays as it is.
    expect([step, learningRate]).toEqual([3, 1e-5]);
    return [norm, scale];
  };

  it.each([
    ['scales down to max_norm', 25, 2, [5, 2 / (5 + 1e-6)]],
    ['leaves a smaller norm alone', 25, 6, [5, 1]],
    ['leaves all alone without max_norm', 1e40, 0, [1e20, 1]],
    ['leaves a gradient of zeros alone', 0, 1, [0, 1]],
  ])('%s', (_, squares, maxNorm, expected) => {
    expect(run(squares, undefined, maxNorm)).toEqual(expected);
    expect(run(squares, [1, -1e300, 0], maxNorm)).toEqual(expected);
  });

  const nothing = [Number.NaN, Number.NaN];
  it.each([
    ['the norm is not a number', Number.NaN, [1]],
    ['the norm is infinite', Number.POSITIVE_INFINITY, [1]],
    ['a loss is not a number', 4, [1, Number.NaN, 2]],
    ['a loss is infinite', 4, [Number.NEGATIVE_INFINITY]],
  ])('stops updates when %s', (_, squares, losses) => {
    for (const maxNorm of [0, 1]) expect(run(squares, losses, maxNorm)).toEqual(nothing);
  });

  it('never starts again once it has stopped', () => {
    expect(run(4, [1], 1, Number.NaN)).toEqual(nothing);
  });

  itRefuses('losses of another number', device, 'clip_scale: losses has 2 elements, needs 3', (d) => {
    const [update, squares, losses] = [4, 1, 2].map((n) => empty(d, 'float64', [n]));
    addon.ops.clip_scale({ update, squares, losses, n: 3, max_norm: 1 });
  });
};
