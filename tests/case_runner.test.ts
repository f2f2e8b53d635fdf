import { describe, expect, it } from 'vitest';
import * as runner from './case_runner.js';

// Each pair of a matcher, told by this runner and by vitest.
const VALUES: unknown[] = [
  0,
  -0,
  1,
  2,
  Number.NaN,
  'ab',
  [1, 2],
  [1, 2, 3],
  { a: 1 },
  { a: 1, b: [1, 2] },
  new Float64Array([1, 2]),
];
const MATCHERS = [
  'toBe',
  'toEqual',
  'toMatchObject',
  'toBeLessThan',
  'toBeLessThanOrEqual',
  'toBeGreaterThan',
];

/** Whether it throws nothing. */
function holds(body: () => unknown): boolean {
  try {
    body();
    return true;
  } catch {
    return false;
  }
}

// biome-ignore lint/suspicious/noExplicitAny: one call for all matchers
type Expect = (value: unknown) => any;

describe.each(MATCHERS)('%s', (matcher) => {
  const numbers = matcher.includes('Than');
  const values = numbers ? VALUES.filter((value) => typeof value === 'number') : VALUES;

  it('judges as vitest does, negated too', () => {
    for (const actual of values)
      for (const wanted of values) {
        // vitest takes nothing but objects here.
        if (matcher === 'toMatchObject' && typeof wanted !== 'object') continue;
        const told = [runner.expect as Expect, expect as Expect].map((of) => [
          holds(() => of(actual)[matcher](wanted)),
          holds(() => of(actual).not[matcher](wanted)),
        ]);
        expect(told[0], `${String(actual)} ${String(wanted)}`).toEqual(told[1]);
      }
  });
});

it('toThrow looks for the message, toBeNaN for NaN, and fail fails', () => {
  const fails = () => {
    throw new Error('the sizes are too large');
  };
  expect(holds(() => runner.expect(fails).toThrow('too large'))).toBe(true);
  expect(holds(() => runner.expect(fails).toThrow('too small'))).toBe(false);
  expect(() => runner.expect(fails).not.toThrow()).toThrow("'the sizes are too large' not.toThrow");
  expect(holds(() => runner.expect(() => {}).toThrow())).toBe(false);
  expect(holds(() => runner.expect(() => {}).not.toThrow())).toBe(true);
  expect(holds(() => runner.expect(Number.NaN).toBeNaN())).toBe(true);
  expect(holds(() => runner.expect(1).toBeNaN())).toBe(false);
  for (const [a, b] of [
    [1, 1.004],
    [1, 1.006],
    [1, Number.NaN],
  ])
    expect(holds(() => runner.expect(a).toBeCloseTo(b, 2))).toBe(holds(() => expect(a).toBeCloseTo(b, 2)));
  expect(() => runner.expect(1, 'x[0]').toBe(2)).toThrow('x[0]: 1 toBe 2');
  expect(() => runner.expect.fail('why')).toThrow('why');
});

it('counts what passes, fails and is skipped, and looks around after each', async () => {
  let after = 0;
  runner.describe('outer', () => {
    runner.afterEach(() => {
      after++;
      runner.expect(after, 'after').not.toBe(3);
    });
    runner.it('passes', async () => {});
    runner.it.each([[1, { a: 2 }]])('fails for %i, %j', (x) => runner.expect(x).toBe(2));
    runner.it('is good, but leaves something behind', () => {});
    runner.describe.skip('left out', () => runner.it('fails', () => runner.expect.fail('never run')));
    runner.describe.skipIf(true)('inner', () => {
      runner.it.each([{ size: { rows: 3 } }])('of $size.rows', () => runner.expect.fail('never run'));
    });
  });
  runner.it('stands outside', () => {});
  expect(await runner.runDeclared()).toEqual({
    passed: 2,
    skipped: 2,
    failed: [
      { name: 'outer › fails for 1, {"a":2}', message: '1 toBe 2' },
      { name: 'outer › is good, but leaves something behind', message: 'after: 3 not.toBe 3' },
    ],
  });
  expect(after).toBe(3);
  expect(await runner.runDeclared()).toEqual({ passed: 0, skipped: 0, failed: [] });
});
