import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { writeTinyModel } from './tiny_model.js';

const root = join(import.meta.dirname, '..');

it("the README's example of the library runs", async () => {
  const [, code] = /```ts\n(.*?)```/s.exec(readFileSync(join(root, 'README.md'), 'utf8'))!;
  const model = await writeTinyModel();
  mkdirSync(join(root, 'build'), { recursive: true });
  const directory = mkdtempSync(join(root, 'build/readme-'));
  const file = join(directory, 'example.ts');
  try {
    writeFileSync(
      file,
      `${code
        .replace("'tstrain'", "'../../index.js'")
        .replace("'out/quickstart'", JSON.stringify(model))}\nexport { dx, ids };\n`,
    );
    const { dx, ids } = await import(file);
    expect(dx.shape).toEqual([8, 64]);
    expect(ids).toHaveLength(20);
  } finally {
    rmSync(directory, { recursive: true });
    rmSync(model, { recursive: true });
  }
});
