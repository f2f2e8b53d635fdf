import { homedir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '../errors.js';

/**
 * A path in which `~` stands for the home directory: shells put it in, but not in a file, and not behind `--model=`.
 * @throws UserError for the home of somebody else (`~name`), and when there is no home
 */
export function expandHome(path: string): string {
  if (!path.startsWith('~')) return path;
  const [first] = path.split('/');
  if (first !== '~')
    throw new UserError(
      `${path}: ${first} is not expanded; give the whole path, or ./${path} for a name with a ~`,
    );
  let home: string;
  try {
    home = homedir();
  } catch {
    throw new UserError(`${path}: the home directory, for which ~ stands, is not known; give the whole path`);
  }
  return join(home, path.slice(1));
}
