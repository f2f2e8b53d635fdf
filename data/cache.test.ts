import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { cacheFile, defaultCacheDirectory, hashFile, hashRows, readCache, writeCache } from './cache.js';
import type { EncodedRows } from './encode.js';

const folder = mkdtempSync(join(tmpdir(), 'tstrain-cache-'));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => vi.unstubAllEnvs());

const rows: EncodedRows = {
  ids: Int32Array.of(1, 70_000, 2, 1, 2),
  labels: Int32Array.of(-100, 70_000, 2, -100, 2),
  lengths: Int32Array.of(3, 2),
  truncated: Int32Array.of(0, 4),
  // More row numbers than the header's first read holds.
  emptyOutputs: Array.from({ length: 20_000 }, (_, i) => 1000 + i),
  unreadKeys: new Map([
    ['__proto__', 2],
    ['system', 1],
  ]),
};

describe('the cache', () => {
  const file = join(folder, 'deep', 'tokens', 'x.bin');

  it('gives back what was kept', async () => {
    expect(await readCache(file)).toBe('absent');
    await writeCache(file, rows, await hashRows(rows));
    expect(await readCache(file)).toEqual({ encoded: rows, hash: await hashRows(rows) });
    expect(readdirSync(dirname(file))).toEqual(['x.bin']);
  });

  it('notices every kind of damage', async () => {
    await writeCache(file, rows, await hashRows(rows));
    const good = readFileSync(file);
    const bytes = (change: (copy: Buffer) => Buffer) => change(Buffer.from(good));
    for (const damaged of [
      bytes((copy) => copy.subarray(0, copy.length - 4)),
      bytes((copy) => copy.subarray(0, 100)),
      bytes((copy) => Buffer.concat([copy, Buffer.alloc(4)])),
      bytes((copy) => copy.fill(copy[copy.length - 1] ^ 1, copy.length - 1)),
      bytes((copy) => Buffer.from(copy.toString('latin1').replace('1000,', '1100,'), 'latin1')),
      bytes((copy) => Buffer.from(copy.toString('latin1').replace('"rows":2', '"rows":1e9'), 'latin1')),
      bytes((copy) => Buffer.from(copy.toString('latin1').replace('["system",1]', '["system",2]'), 'latin1')),
      Buffer.alloc(0),
      Buffer.from('\n'),
    ]) {
      writeFileSync(file, damaged);
      expect(await readCache(file)).toBe('damaged');
    }
  });

  it('makes a file again where there is something that cannot be read, and waits for no FIFO', async () => {
    const fifo = join(folder, 'fifos', 'x.bin');
    mkdirSync(dirname(fifo));
    execFileSync('mkfifo', [fifo]);
    expect(await readCache(fifo)).toBe('damaged');
    await writeCache(fifo, rows, await hashRows(rows));
    expect(await readCache(fifo)).toMatchObject({ encoded: rows });
  });

  it('removes what killed writers left and what nobody has used for a month', async () => {
    const directory = join(folder, 'old');
    const daysAgo = (days: number) => new Date(Date.now() - days * 24 * 3600_000);
    mkdirSync(directory);
    const place = (name: string, at: Date) => {
      writeFileSync(join(directory, name), '');
      utimesSync(join(directory, name), at, at);
    };
    place('unused.bin', daysAgo(31));
    place('recent.bin', daysAgo(29));
    place('half.bin.123.tmp', daysAgo(1));
    place('being-written.bin.124.tmp', daysAgo(0));
    place('not-ours', daysAgo(999));
    const used = join(directory, 'used.bin');
    await writeCache(used, rows, await hashRows(rows));
    expect(readdirSync(directory).sort()).toEqual([
      'being-written.bin.124.tmp',
      'not-ours',
      'recent.bin',
      'used.bin',
    ]);

    utimesSync(used, daysAgo(40), daysAgo(40));
    expect(await readCache(used)).toMatchObject({ encoded: rows });
    await writeCache(join(directory, 'new.bin'), rows, await hashRows(rows));
    expect(readdirSync(directory)).toContain('used.bin');
  });

  it('leaves nothing behind when it cannot be written', async () => {
    writeFileSync(join(folder, 'plain'), '');
    await expect(writeCache(join(folder, 'plain', 'x.bin'), rows, '')).rejects.toThrow(/ENOTDIR|EEXIST/);
  });
});

it('hashRows tells rows apart', async () => {
  const other = { ...rows, labels: Int32Array.of(-100, 70_000, 2, 1, 2) };
  const moved = { ...rows, lengths: Int32Array.of(2, 3) };
  expect(new Set(await Promise.all([rows, other, moved].map(hashRows))).size).toBe(3);
  expect(await hashRows({ ...rows, unreadKeys: new Map() })).toBe(await hashRows(rows));
});

it('the cache file depends on content, tokenizer and length limit', async () => {
  const path = join(folder, 'data');
  writeFileSync(path, 'abc');
  const fileHash = await hashFile(path);
  // The published SHA-256 of "abc".
  expect(fileHash).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  const identity = { fileHash, tokenizerHash: 't', modelMaxLength: 512 };
  const files = [
    identity,
    { ...identity, fileHash: 'other' },
    { ...identity, tokenizerHash: undefined },
    { ...identity, modelMaxLength: 64 },
    { ...identity, modelMaxLength: Number.POSITIVE_INFINITY },
  ].map((each) => cacheFile('/c', each));
  expect(new Set(files).size).toBe(5);
  expect(files[0]).toBe(cacheFile('/c', { ...identity }));
  expect(dirname(files[0])).toBe('/c/tokens');
});

it('the cache lies where XDG says', () => {
  vi.stubEnv('XDG_CACHE_HOME', '/xdg');
  expect(defaultCacheDirectory()).toBe('/xdg/tstrain');
  vi.stubEnv('XDG_CACHE_HOME', '');
  vi.stubEnv('HOME', '/home/someone');
  expect(defaultCacheDirectory()).toBe('/home/someone/.cache/tstrain');
});
