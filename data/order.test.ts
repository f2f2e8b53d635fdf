import { describe, expect, it } from 'vitest';
import { epochOrder } from './order.js';

const shuffled = (n: number, seed: number, epoch: number) =>
  epochOrder(n, { seed, epoch, dataOrder: 'shuffled' });

describe('epochOrder', () => {
  it('sequential is file order', () => {
    expect(epochOrder(4, { seed: 1, epoch: 2, dataOrder: 'sequential' })).toEqual(Int32Array.of(0, 1, 2, 3));
  });

  it('is a permutation that depends on seed and epoch alone', () => {
    const order = shuffled(1000, 42, 3);
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    expect(shuffled(1000, 42, 3)).toEqual(order);
    for (const other of [shuffled(1000, 43, 3), shuffled(1000, 42, 4), shuffled(1000, 42 + 2 ** 32, 3)])
      expect(other).not.toEqual(order);
    expect(shuffled(0, 1, 0)).toEqual(new Int32Array(0));
    expect(shuffled(1, 1, 0)).toEqual(Int32Array.of(0));
  });

  it('stays what it is: a resumed run must meet the same order', () => {
    expect([...shuffled(8, 42, 0)]).toMatchInlineSnapshot(`
      [
        0,
        4,
        3,
        7,
        5,
        6,
        1,
        2,
      ]
    `);
  });

  it('every place is equally likely for every example', () => {
    const counts = new Int32Array(25);
    const trials = 10_000;
    for (let seed = 0; seed < trials; seed++)
      for (const [place, example] of shuffled(5, seed, 0).entries()) counts[5 * example + place]++;
    // 2,000 expected in each cell, standard deviation 40: 5 deviations never happen by chance, and seeds are fixed.
    for (const count of counts) expect(Math.abs(count - trials / 5)).toBeLessThan(200);
  });
});
