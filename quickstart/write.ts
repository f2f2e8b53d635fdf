import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { quickstartRows } from './rows.js';
import { quickstartTokenizer } from './tokenizer.js';

/**
 * Writes the quickstart's data into a directory: `train.json`, `held_out.json` (rows as JSON arrays) and
 * `tokenizer/`. A file that has the right content already is left alone; others are replaced whole.
 */
export function writeQuickstartData(directory: string): void {
  const { train, heldOut } = quickstartRows();
  write(join(directory, 'train.json'), rowPerLine(train));
  write(join(directory, 'held_out.json'), rowPerLine(heldOut));
  for (const [name, content] of Object.entries(quickstartTokenizer())) {
    write(join(directory, 'tokenizer', name), content);
  }
}

function rowPerLine(rows: readonly object[]): string {
  return `[\n${rows.map((row) => JSON.stringify(row)).join(',\n')}\n]\n`;
}

function write(path: string, content: string): void {
  if (existsSync(path) && readFileSync(path, 'utf8') === content) return;
  mkdirSync(dirname(path), { recursive: true });
  // Written aside first: whoever reads meanwhile sees the old file or the new one, never a half.
  const aside = `${path}.${process.pid}.tmp`;
  writeFileSync(aside, content);
  renameSync(aside, path);
}
