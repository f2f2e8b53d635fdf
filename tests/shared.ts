import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type SuiteFactory } from 'vitest';

/** Reference values with third-party text, and real data: beside the project where it is developed, never in it. */
const folder = join(import.meta.dirname, '../../shared');

/** The path of a file or folder there. */
export function shared(path: string): string {
  return join(folder, path);
}

/** A `describe` of tests that need all of `paths` in ../shared: elsewhere they are skipped, and that is said. */
export function describeShared(title: string, paths: readonly string[], tests: SuiteFactory): void {
  const missing = paths.filter((path) => !existsSync(shared(path)));
  if (missing.length === 0) {
    describe(title, tests);
    return;
  }
  console.warn(`skipped: ${title} (needs ${missing.map((path) => `../shared/${path}`).join(', ')})`);
  describe.skip(title, tests);
}
