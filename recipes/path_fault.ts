import { statSync } from 'node:fs';
import { reasonOf } from '../errors.js';

/** What is wrong with a path that has to lead to a file or a directory; undefined when nothing is. */
export function pathFault(path: string, kind: 'file' | 'directory'): string | undefined {
  let found: ReturnType<typeof statSync>;
  try {
    found = statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    return `cannot be looked at: ${reasonOf(error)}: ${path}`;
  }
  // Whoever knows Hugging Face expects the name of a model on its hub to work.
  if (found === undefined) {
    return kind === 'directory'
      ? `no such directory: ${path} (nothing is downloaded)`
      : `no such file: ${path}`;
  }
  if (kind === 'file' && found.isDirectory()) return `expected a file, but this is a directory: ${path}`;
  if (kind === 'file' && !found.isFile()) return `expected a regular file, which can be read twice: ${path}`;
  if (kind === 'directory' && !found.isDirectory())
    return `expected a directory, but this is a file: ${path}`;
  return undefined;
}
