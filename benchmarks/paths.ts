import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's root: sources lie one directory below it, the compiled benchmark two. */
export const root = [1, 2]
  .map((levels) => join(dirname(fileURLToPath(import.meta.url)), ...Array(levels).fill('..')))
  .find((directory) => existsSync(join(directory, 'package.json')))!;

/** Files that are not compiled (Python, C++) stay with the sources. */
export const sources = join(root, 'benchmarks');

/** What the benchmark makes: workloads, logs, the compiled C++ program. */
export const scratch = join(root, 'build/benchmarks');
