import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, readSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it, vi } from 'vitest';
import { SafetensorsFile } from './engine/checkpoint/safetensors.js';
import { readLlamaConfig } from './engine/model/config.js';
import { exists, openRegular, readFully, readPieces, readRegular } from './files.js';

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  return { ...fs, readSync: vi.fn(fs.readSync) };
});

const folder = mkdtempSync(join(tmpdir(), 'tstrain-files-'));
const at = (name: string) => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));
mkdirSync(at('directory'));
execFileSync('mkfifo', [at('fifo')]);
symlinkSync('circle', at('circle'));
writeFileSync(at('file'), '0123456789');

it('what is no regular file is refused, by its name, and a FIFO is not waited for', async () => {
  const faults: [string, string][] = [
    ['directory', 'expected a regular file, this is a directory'],
    ['fifo', 'expected a regular file, this is a FIFO'],
    ['missing', 'the file is missing'],
    ['circle', 'cannot be read: symbolic links lead in a circle'],
    ['file/inner', 'cannot be read: a part of the path is not a directory'],
    ['n'.repeat(300), 'cannot be read: the name is too long'],
  ];
  for (const [name, what] of faults) {
    const message = `${at(name)}: ${what}`;
    expect(() => openRegular(at(name))).toThrow(message);
    expect(() => readRegular(at(name))).toThrow(message);
    expect(() => SafetensorsFile.open(at(name))).toThrow(message);
    await expect(readPieces(at(name), 4).next()).rejects.toThrow(message);
  }
  mkdirSync(at('model'));
  execFileSync('mkfifo', [at('model/config.json')]);
  expect(() => readLlamaConfig(at('model'))).toThrow(
    `${at('model/config.json')}: expected a regular file, this is a FIFO`,
  );
});

it('a name is there, or not, or cannot be seen', () => {
  expect([exists(at('file')), exists(at('missing')), exists(at('file/inner'))]).toEqual([true, false, false]);
  expect(() => exists(at('circle'))).toThrow(
    `${at('circle')}: cannot be read: symbolic links lead in a circle`,
  );
});

it('a file is read to its end, however little comes at a time', async () => {
  const { readSync: read } = await vi.importActual<typeof import('node:fs')>('node:fs');
  vi.mocked(readSync).mockImplementation(((
    fd: number,
    bytes: Uint8Array,
    from: number,
    size: number,
    position: number,
  ) => read(fd, bytes, from, Math.min(size, 3), position)) as typeof readSync);
  expect(readRegular(at('file')).toString()).toBe('0123456789');
  const fd = openRegular(at('file'));
  expect(readFully(fd, at('file'), Buffer.alloc(8), 4)).toBe(6);
  closeSync(fd);
  const header = Buffer.from(JSON.stringify({ x: { dtype: 'F32', shape: [1], data_offsets: [0, 4] } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  writeFileSync(at('x.safetensors'), Buffer.concat([length, header, Buffer.alloc(4)]));
  const file = SafetensorsFile.open(at('x.safetensors'));
  expect([...file.tensors.keys()]).toEqual(['x']);
  file.close();
  vi.mocked(readSync).mockImplementation(read);

  const pieces: string[] = [];
  for await (const piece of readPieces(at('file'), 4)) pieces.push(piece.toString());
  expect(pieces).toEqual(['0123', '4567', '89']);
});
