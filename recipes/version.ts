import { existsSync, readFileSync } from 'node:fs';

// package.json is one directory up from the sources, two from dist/.
const [file] = ['../package.json', '../../package.json']
  .map((path) => new URL(path, import.meta.url))
  .filter(existsSync);

/** Of this package, from package.json. */
export const version: string = JSON.parse(readFileSync(file, 'utf8')).version;
