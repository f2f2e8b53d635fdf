import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { UserError } from '../errors.js';
import { describeShared, shared } from '../tests/shared.js';
import { loadTokenizer } from '../tokenizer/index.js';
import { type DatasetOptions, loadDataset } from './dataset.js';
import { renderReport } from './report.js';

vi.mock('node:os', async (original) => {
  const os = await original<typeof import('node:os')>();
  return { ...os, homedir: vi.fn(os.homedir) };
});

const folder = mkdtempSync(join(tmpdir(), 'tstrain-dataset-'));
const cacheDirectory = join(folder, 'cache');
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => rmSync(cacheDirectory, { recursive: true, force: true }));

const rows = [
  { ids: [1, 5, 6, 2], prompt_len: 2 },
  { ids: [1, 5, 6, 7, 8, 2], prompt_len: 5 },
  { ids: [1], labels: [1] },
  { ids: [1, 9, 2], labels: [-100, -100, 2] },
  { ids: [1, 9, 2], prompt_len: 2 },
];

function write(rows: unknown[], name = 'rows.jsonl'): string {
  const path = join(folder, name);
  writeFileSync(path, rows.map((row) => JSON.stringify(row)).join('\n'));
  return path;
}

function load(options: Partial<DatasetOptions> = {}) {
  return loadDataset({
    path: options.path ?? write(rows),
    modelMaxLength: 4,
    keepUnlabelledRows: false,
    threads: 2,
    cacheDirectory,
    ...options,
  });
}

describe('loadDataset on pre-tokenised rows', () => {
  it('drops rows without a label, by default', async () => {
    const dataset = await load();
    expect(dataset.length).toBe(3);
    expect([...dataset.lengths]).toEqual([4, 3, 3]);
    expect([...dataset.labelCounts]).toEqual([2, 1, 1]);
    expect(dataset.example(1)).toEqual({
      ids: Int32Array.of(1, 9, 2),
      labels: Int32Array.of(-100, -100, 2),
      row: 3,
      truncated: 0,
    });
    expect(() => dataset.example(3)).toThrow('example 3 of 3');
    expect(dataset.report).toMatchObject({
      form: 'tokens',
      rowsRead: 5,
      truncated: [{ row: 1, by: 2 }],
      unlabelled: [1, 2],
      unlabelledKept: false,
      emptyOutputs: [],
      duplicates: [{ row: 4, of: 3 }],
      examples: 3,
      tokens: 10,
      labelTokens: 4,
      longest: 4,
      tokenising: { threads: 1 },
      cache: { state: 'written' },
    });
    expect(renderReport(dataset.report)).toContain('2 rows without a label left, dropped: row 1, row 2');
  });

  it('keeps them at zero weight when asked', async () => {
    const dataset = await load({ keepUnlabelledRows: true });
    expect([...dataset.lengths]).toEqual([4, 4, 1, 3, 3]);
    expect([...dataset.labelCounts]).toEqual([2, 0, 0, 1, 1]);
    expect(dataset.example(1)).toEqual({
      ids: Int32Array.of(1, 5, 6, 7),
      labels: Int32Array.of(-100, -100, -100, -100),
      row: 1,
      truncated: 2,
    });
    expect(dataset.report).toMatchObject({ unlabelled: [1, 2], unlabelledKept: true, examples: 5 });
  });

  it('never cuts without a limit', async () => {
    const dataset = await load({ modelMaxLength: Number.POSITIVE_INFINITY });
    expect([...dataset.lengths]).toEqual([4, 6, 3, 3]);
    expect(dataset.report.truncated).toEqual([]);
  });

  it('comes from the cache the second time, the same in everything', async () => {
    const first = await load();
    const second = await load();
    expect(second.report.cache.state).toBe('read');
    expect(second.report.tokenising.threads).toBeNull();
    expect(second.hash).toBe(first.hash);
    for (let i = 0; i < first.length; i++) expect(second.example(i)).toEqual(first.example(i));
    const { tokenising: _, cache: __, ...found } = second.report;
    expect(first.report).toMatchObject(found);
    expect((await load({ modelMaxLength: 5 })).report.cache.state).toBe('written');
  });

  it('remakes a damaged cache file and says so', async () => {
    const first = await load();
    const { file } = first.report.cache;
    const bytes = readFileSync(file!);
    bytes[bytes.length - 1] ^= 1;
    writeFileSync(file!, bytes);
    const second = await load();
    expect(second.report.cache.state).toBe('remade');
    expect(second.hash).toBe(first.hash);
    expect((await load()).report.cache.state).toBe('read');
  });

  it('goes on without a cache that cannot be written, and says so', async () => {
    const dataset = await load({ cacheDirectory: write([], 'a file') });
    expect(dataset.length).toBe(3);
    expect(dataset.report.cache).toMatchObject({
      state: 'not written',
      reason: expect.stringMatching(
        /: (a part of the path is not a directory|something else of this name is there)$/,
      ),
    });
  });

  it('goes on without a cache for a user who has no home, and says so', async () => {
    vi.stubEnv('XDG_CACHE_HOME', '');
    vi.mocked(homedir).mockImplementation(() => {
      throw new Error('A system error occurred: uv_os_homedir returned ENOENT');
    });
    const { cache } = (await load({ cacheDirectory: undefined })).report;
    expect(cache).toEqual({
      file: undefined,
      state: 'not written',
      reason: 'this user has no home; set XDG_CACHE_HOME',
    });
    vi.unstubAllEnvs();
  });

  it('says which file is not one that can be read', async () => {
    const fifo = join(folder, 'fifo');
    execFileSync('mkfifo', [fifo]);
    await expect(load({ path: fifo })).rejects.toThrow(
      `Data file ${fifo} is not a regular file, which can be read twice: store its rows first.`,
    );
  });

  it('has a hash of its content, wherever the file lies and however it is written', async () => {
    const { hash } = await load();
    const spaced = join(folder, 'array.json');
    writeFileSync(spaced, JSON.stringify(rows, null, 2));
    expect((await load({ path: spaced })).hash).toBe(hash);
    const others = [
      await load({ keepUnlabelledRows: true }),
      await load({ modelMaxLength: 6 }),
      await load({ path: write([...rows].reverse()) }),
      await load({ path: write([{ ...rows[0], prompt_len: 3 }, ...rows.slice(1)]) }),
    ];
    expect(new Set([hash, ...others.map((other) => other.hash)]).size).toBe(5);
  });

  it('refuses ids and labels outside the vocabulary', async () => {
    await load({ vocabSize: 10 });
    await expect(load({ vocabSize: 9 })).rejects.toThrow(
      new UserError(
        `${join(folder, 'rows.jsonl')}, row 3: id 9 is outside the model's vocabulary of 9 (ids 0 to 8). ` +
          'The data or the tokenizer belongs to another model.',
      ),
    );
    const path = write([{ ids: [1, 2], labels: [-100, 9] }]);
    await expect(load({ path, vocabSize: 9 })).rejects.toThrow(/row 0: id 9 is outside/);
  });

  it('refuses data without a row to learn from', async () => {
    await expect(load({ path: write([], 'none.jsonl') })).rejects.toThrow(/none.jsonl is empty/);
    const path = write([
      { ids: [1, 5, 2], prompt_len: 3 },
      { ids: [1], prompt_len: 0 },
    ]);
    await expect(load({ path, keepUnlabelledRows: true })).rejects.toThrow(
      new UserError(
        `${path}: none of its 2 rows has a label to learn from. ` +
          'A row needs at least two ids and a label on one that is not its first.',
      ),
    );
    await expect(load({ path: write(rows), modelMaxLength: 2 })).rejects.toThrow(
      /none of its 5 rows .*; rows were cut to model_max_length 2, which leaves nothing of the response. Raise it\.$/,
    );
  });

  it('tells which keys of the rows are not used, from the cache too', async () => {
    const path = write(
      [{ ...rows[0], system: 's' }, { ...rows[3], system: 't', history: [] }, rows[4]],
      'keys.jsonl',
    );
    for (const state of ['written', 'read']) {
      const { report } = await load({ path });
      expect(report.cache.state).toBe(state);
      expect(renderReport(report)).toContain(
        'keys that are not used: "system" (filled in 2 rows); ids, labels, prompt_len are',
      );
    }
  });

  it('leaves no temporary file', async () => {
    await load();
    expect(readdirSync(join(cacheDirectory, 'tokens'))).toEqual([
      expect.stringMatching(/^[0-9a-f]{32}\.bin$/),
    ]);
  });
});

it('Alpaca rows need a tokenizer', async () => {
  const path = write([{ instruction: 'a', output: 'b' }]);
  await expect(load({ path })).rejects.toThrow(
    new UserError(
      `${path} holds text: a tokenizer is needed to read it. Set tokenizer_name_or_path to a directory with ` +
        'tokenizer.json, or give pre-tokenised rows ("ids" with "labels" or "prompt_len").',
    ),
  );
});

const goldens = shared('goldens/alpaca');
describeShared('loadDataset on the reference rows', ['goldens/alpaca', 'tokenizers/llama'], () => {
  it('reads the reference ids as pre-tokenised rows and reports the rows left without a label', async () => {
    const golden = readFileSync(`${goldens}/rows_64.jsonl`, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const dataset = await load({ path: `${goldens}/rows_64.jsonl`, modelMaxLength: 512, vocabSize: 32_000 });
    expect(dataset.report.unlabelled).toHaveLength(11);
    expect(dataset.length).toBe(25);
    const { ids, row } = dataset.example(24);
    expect([...ids]).toEqual(golden[row].ids);
  });

  it('encodes Alpaca rows with the LLaMA tokenizer, reporting what was cut', async () => {
    const llama = await loadTokenizer(shared('tokenizers/llama'));
    const lines = readFileSync(`${goldens}/edge_512.jsonl`, 'utf8').trim().split('\n');
    const options = { path: `${goldens}/edge_rows.json`, tokenizer: () => llama };
    const dataset = await load({ ...options, modelMaxLength: 512 });
    expect(dataset.report).toMatchObject({ form: 'alpaca', rowsRead: 10, emptyOutputs: [0], truncated: [] });
    for (const [i, line] of lines.entries())
      expect([...dataset.example(i).ids]).toEqual(JSON.parse(line).ids);
    const cut = await load({ ...options, modelMaxLength: 48 });
    for (const { row, by } of cut.report.truncated) expect(by).toBe(dataset.lengths[row] - 48);
    expect(cut.report.truncated.length).toBeGreaterThan(3);
  });
});
