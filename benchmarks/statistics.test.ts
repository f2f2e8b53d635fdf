import { describe, expect, it } from 'vitest';
import { median, medianRatio } from './statistics.js';

describe('median', () => {
  it('is the middle value, whatever the order', () => {
    expect(median([9, 1, 5])).toBe(5);
    expect(median([10, 2, 9])).toBe(9);
  });

  it('is the mean of the middle two of an even number', () => {
    expect(median([4, 1, 3, 100])).toBe(3.5);
  });

  it('leaves its argument as it was', () => {
    const values = [3, 1, 2];
    median(values);
    expect(values).toEqual([3, 1, 2]);
  });

  it('is NaN of nothing', () => {
    expect(median([])).toBeNaN();
  });
});

describe('medianRatio', () => {
  it('compares each round with its neighbour, not median with median', () => {
    // The medians are 20 and 10; round by round the ratio is 1, 4 and 3.
    expect(medianRatio([10, 20, 30], [10, 5, 10])).toBe(3);
  });

  it('refuses rounds without a counterpart', () => {
    expect(() => medianRatio([1, 2], [1])).toThrow('2 rounds against 1');
  });
});
