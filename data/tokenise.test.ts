import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadTokenizer } from '../tokenizer/index.js';
import { hashRows } from './cache.js';
import { type TokeniseOptions, tokeniseFile } from './tokenise.js';

const folder = mkdtempSync(join(tmpdir(), 'tstrain-tokenise-'));
// Inside the project, so that the compiled files find its packages.
const compiled = 'node_modules/.cache/tstrain-tokenise';
const tokenizerDirectory = join(folder, 'tokenizer');
const path = join(folder, 'rows.json');

beforeAll(async () => {
  writeByteTokenizer();
  // A key that is not read makes the file large enough for worker threads. Lengths differ so that batches finish
  // out of order.
  const rows = Array.from({ length: 3000 }, (_, i) => ({
    instruction: `Write row ${i}.`,
    output: `${i} `.repeat(20 + ((i * 7919) % 131)),
    comment: 'x'.repeat(5000),
  }));
  writeFileSync(path, JSON.stringify([...rows, { instruction: 'x', output: ' ' }]));
  await build({
    entryPoints: ['data/tokenise.ts', 'data/encode_worker.ts'],
    outdir: compiled,
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
  });
});
afterAll(() => {
  rmSync(folder, { recursive: true });
  rmSync(compiled, { recursive: true });
});

/** A LLaMA tokenizer of nothing but bytes. */
function writeByteTokenizer(): void {
  const names = ['<unk>', '<s>', '</s>'];
  for (let byte = 0; byte < 256; byte++)
    names.push(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  names.push('▁');
  mkdirSync(tokenizerDirectory);
  writeFileSync(
    join(tokenizerDirectory, 'tokenizer.json'),
    JSON.stringify({
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: names.slice(0, 3).map((content, id) => ({
        id,
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      })),
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'Prepend', prepend: '▁' },
          { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
        ],
      },
      pre_tokenizer: null,
      post_processor: null,
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          { type: 'Strip', content: ' ', start: 1, stop: 0 },
        ],
      },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: '<unk>',
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: true,
        byte_fallback: true,
        vocab: Object.fromEntries(names.map((name, id) => [name, id])),
        merges: [],
      },
    }),
  );
  writeFileSync(
    join(tokenizerDirectory, 'tokenizer_config.json'),
    JSON.stringify({ bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>' }),
  );
}

async function options(threads: number): Promise<TokeniseOptions> {
  return { path, tokenizer: await loadTokenizer(tokenizerDirectory), modelMaxLength: 400, threads };
}

describe('tokeniseFile', () => {
  it('gives the same rows in worker threads as in this one', async () => {
    const here = await tokeniseFile(await options(2));
    expect(here.threads).toBe(1);
    expect(here.encoded.lengths).toHaveLength(3001);
    expect(here.encoded.emptyOutputs).toEqual([3000]);
    const { tokeniseFile: compiledTokeniseFile } = (await import(
      `${process.cwd()}/${compiled}/tokenise.js`
    )) as typeof import('./tokenise.js');
    for (const threads of [2, 3]) {
      const there = await compiledTokeniseFile(await options(threads));
      expect(there.threads).toBe(threads);
      // By hash: comparing half a million numbers one by one takes the test framework seconds.
      expect(await hashRows(there.encoded)).toBe(await hashRows(here.encoded));
    }
  });

  it('passes on a bad row and an error of a thread', async () => {
    const { tokeniseFile: compiledTokeniseFile } = (await import(
      `${process.cwd()}/${compiled}/tokenise.js`
    )) as typeof import('./tokenise.js');
    const good = await options(2);
    const bad = join(folder, 'bad.json');
    const filler = { instruction: 'x', output: 'y', comment: 'x'.repeat(30_000) };
    writeFileSync(bad, JSON.stringify([...Array.from({ length: 200 }, () => filler), { instruction: 'z' }]));
    await expect(compiledTokeniseFile({ ...good, path: bad })).rejects.toThrow(
      /\(row 200\): key "output" is missing/,
    );
    const definition = { ...good.tokenizer!.definition, eosId: undefined };
    await expect(
      compiledTokeniseFile({ ...good, tokenizer: { ...good.tokenizer!, definition } }),
    ).rejects.toThrow(/names no eos_token/);
  });
});
