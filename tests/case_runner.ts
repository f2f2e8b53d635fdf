import { format, inspect, isDeepStrictEqual } from 'node:util';

// As much of vitest as op cases and goldens use, for a machine that has the bundle and no node_modules: vitest with what it
// needs takes 50 MB. There it stands in vitest's place; here case_runner.test.ts holds it against vitest.

type Body = () => unknown;
// biome-ignore lint/suspicious/noExplicitAny: the rows of a table are whatever the body of its test takes
type RowBody = (...row: any[]) => unknown;

interface Test {
  name: string;
  skipped: boolean;
  after: readonly Body[];
  body: Body;
}

interface Group {
  name: string;
  skipped: boolean;
  after: readonly Body[];
}

export interface Outcome {
  passed: number;
  skipped: number;
  failed: { name: string; message: string }[];
}

let group: Group = { name: '', skipped: false, after: [] };
let tests: Test[] = [];

function inGroup(title: string, body: Body, skipped: boolean): void {
  const outer = group;
  group = { name: `${outer.name}${title} › `, skipped: outer.skipped || skipped, after: outer.after };
  body();
  group = outer;
}

function add(title: string, body: Body, skipped: boolean): void {
  tests.push({ ...group, name: group.name + title, skipped: group.skipped || skipped, body });
}

/** `title` with the values of a row of a table: %i and the like in order, $name and $name.of from a row that is an object. */
function titled(title: string, row: readonly unknown[]): string {
  const named = title.replace(/\$(\w[\w.]*)/g, (whole, path: string) => {
    // biome-ignore lint/suspicious/noExplicitAny: rows are objects of any kind
    const value = path.split('.').reduce((object: any, key) => object?.[key], row[0]);
    return value === undefined ? whole : typeof value === 'string' ? value : inspect(value);
  });
  const places = named.match(/%[sdifjoO]/g)?.length ?? 0;
  return format(named, ...row.slice(0, places));
}

type Declare = (title: string, body: Body, skipped: boolean) => void;

function each(declare: Declare, skipped: boolean) {
  return (table: readonly unknown[]) => (title: string, body: RowBody) => {
    for (const item of table) {
      const row = Array.isArray(item) ? item : [item];
      declare(titled(title, row), () => body(...row), skipped);
    }
  };
}

function declarer(declare: Declare) {
  const of = (skipped: boolean) =>
    Object.assign((title: string, body: Body) => declare(title, body, skipped), {
      each: each(declare, skipped),
    });
  return Object.assign(of(false), { skipIf: of, skip: of(true) });
}

export const describe = declarer(inGroup);
export const it = declarer(add);

/** Runs `body` after each test that is declared later in this group. */
export function afterEach(body: Body): void {
  group = { ...group, after: [...group.after, body] };
}

/** Runs all that has been declared, one after the other. */
export async function runDeclared(): Promise<Outcome> {
  const outcome: Outcome = { passed: 0, skipped: 0, failed: [] };
  const declared = tests;
  tests = [];
  for (const { name, skipped, after, body } of declared) {
    if (skipped) {
      outcome.skipped++;
      continue;
    }
    const errors: unknown[] = [];
    for (const step of [body, ...after]) {
      try {
        await step();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length === 0) outcome.passed++;
    else
      outcome.failed.push({ name, message: errors.map((e) => (e as Error).message ?? String(e)).join('; ') });
  }
  return outcome;
}

function matches(actual: unknown, expected: unknown): boolean {
  if (typeof expected !== 'object' || expected === null) return Object.is(actual, expected);
  if (Array.isArray(expected)) return isDeepStrictEqual(actual, expected);
  return (
    typeof actual === 'object' &&
    actual !== null &&
    Object.entries(expected).every(([key, value]) => matches((actual as Record<string, unknown>)[key], value))
  );
}

/** The message of what `call` throws; undefined when it throws nothing. */
function thrownBy(call: () => unknown): string | undefined {
  try {
    call();
  } catch (error) {
    return (error as Error).message;
  }
  return undefined;
}

// biome-ignore lint/suspicious/noExplicitAny: what is compared may be anything
const MATCHERS: Record<string, (actual: any, expected: any, digits?: any) => boolean> = {
  toBe: Object.is,
  toBeNaN: Number.isNaN,
  toEqual: isDeepStrictEqual,
  toMatchObject: matches,
  toBeCloseTo: (a, b, digits) => Math.abs(a - b) < 10 ** -digits / 2,
  toBeLessThan: (a, b) => a < b,
  toBeLessThanOrEqual: (a, b) => a <= b,
  toBeGreaterThan: (a, b) => a > b,
  // Of what thrownBy() gives.
  toThrow: (thrown, message = '') => thrown?.includes(message) ?? false,
};

type Matchers = Record<string, (expected?: unknown, digits?: number) => void>;

function matchersOf(actual: unknown, what: string, negated: boolean): Matchers {
  return Object.fromEntries(
    Object.entries(MATCHERS).map(([name, matcher]) => [
      name,
      (expected?: unknown, digits?: number) => {
        const subject = name === 'toThrow' ? thrownBy(actual as () => unknown) : actual;
        if (matcher(subject, expected, digits) !== negated) return;
        const words = `${inspect(subject)} ${negated ? 'not.' : ''}${name} ${inspect(expected)}`;
        expect.fail(what === '' ? words : `${what}: ${words}`);
      },
    ]),
  );
}

export const expect = Object.assign(
  (actual: unknown, what = '') =>
    ({ ...matchersOf(actual, what, false), not: matchersOf(actual, what, true) }) as Matchers & {
      not: Matchers;
    },
  {
    fail(message: string): never {
      throw new Error(message);
    },
  },
);
