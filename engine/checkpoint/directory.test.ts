import { once } from 'node:events';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { UserError } from '../../errors.js';
import { bundleModules, kill, startScript } from '../../tests/child.js';
import {
  checkFreeDisk,
  type FileWriter,
  listCheckpoints,
  newestWholeCheckpoint,
  pruneCheckpoints,
  removeLeftovers,
  verifyCheckpoint,
  writeCheckpoint,
  writeFinalModel,
} from './directory.js';
import { lockOutputDirectory } from './lock.js';
import { writeJson, writeSynced } from './synced_file.js';

let out = '';
beforeEach(() => {
  out = mkdtempSync(join(tmpdir(), 'tstrain-checkpoint-'));
});
afterEach(() => rmSync(out, { recursive: true }));

const files =
  (contents: Record<string, string>): FileWriter =>
  async (directory) => {
    const writing = Object.entries(contents).map(([name, text]) => writeText(join(directory, name), text));
    return Promise.all(writing);
  };

const writeText = (path: string, text: string) => writeSynced(path, (file) => file.append(Buffer.from(text)));

describe('writeCheckpoint', () => {
  it('leaves the files and a manifest that fits, and nothing else', async () => {
    const path = await writeCheckpoint(out, 7, async (directory) => [
      await writeJson(join(directory, 'state.json'), { step: 7 }),
      await writeText(join(directory, 'weights'), 'abc'),
    ]);
    expect(path).toBe(join(out, 'checkpoint-7'));
    expect(readdirSync(out)).toEqual(['checkpoint-7']);
    expect(readdirSync(path).sort()).toEqual(['manifest.json', 'state.json', 'weights']);
    expect(JSON.parse(readFileSync(join(path, 'manifest.json'), 'utf8')).files).toEqual([
      { file: 'state.json', bytes: 16, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
      {
        file: 'weights',
        bytes: 3,
        // SHA-256 of "abc", FIPS 180-4's own example.
        sha256: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
      },
    ]);
    expect(await verifyCheckpoint(path)).toBeUndefined();
  });

  it('replaces a checkpoint of the same step', async () => {
    await writeCheckpoint(out, 7, files({ old: '1' }));
    const path = await writeCheckpoint(out, 7, files({ weights: '2' }));
    expect(readdirSync(out)).toEqual(['checkpoint-7']);
    expect(readdirSync(path).sort()).toEqual(['manifest.json', 'weights']);
  });

  it('leaves nothing behind, and the old one alone, when writing fails', async () => {
    await writeCheckpoint(out, 7, files({ weights: '1' }));
    const failing: FileWriter = async (directory) => {
      writeFileSync(join(directory, 'weights'), '2');
      throw Object.assign(new Error('write'), { code: 'ENOSPC' });
    };
    const error = await writeCheckpoint(out, 7, failing).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UserError);
    expect((error as Error).message).toBe(
      `${out}/checkpoint-7: the disk is full; it was not saved; checkpoints saved earlier are whole: mend that, then --resume`,
    );
    expect(readdirSync(out)).toEqual(['checkpoint-7']);
    expect(readFileSync(join(out, 'checkpoint-7/weights'), 'utf8')).toBe('1');
  });
});

describe('newestWholeCheckpoint', () => {
  it('finds none in an empty or missing directory', async () => {
    expect(await newestWholeCheckpoint(out)).toEqual({ checkpoint: undefined, skipped: [] });
    expect(await newestWholeCheckpoint(join(out, 'missing'))).toEqual({ checkpoint: undefined, skipped: [] });
  });

  it('goes by the number of the step, and says which it skipped and why', async () => {
    for (const step of [9, 10, 11, 12, 13, 14])
      await writeCheckpoint(out, step, files({ a: 'x', weights: String(step) }));
    const at = (step: number, file: string) => join(out, `checkpoint-${step}`, file);
    appendFileSync(at(11, 'weights'), '!');
    rmSync(at(12, 'weights'));
    writeFileSync(at(13, 'weights'), '99');
    rmSync(at(14, 'manifest.json'));
    mkdirSync(join(out, 'checkpoint-15'));
    writeFileSync(at(15, 'manifest.json'), '{"files":[{"file":"../checkpoint-9/a","bytes":1,"sha256":""}]}');
    mkdirSync(join(out, 'checkpoint-best'));

    const { checkpoint, skipped } = await newestWholeCheckpoint(out);
    expect(checkpoint).toEqual({ path: join(out, 'checkpoint-10'), step: 10 });
    expect(skipped).toEqual([
      { path: join(out, 'checkpoint-15'), why: 'manifest.json cannot be understood' },
      { path: join(out, 'checkpoint-14'), why: 'manifest.json is missing' },
      { path: join(out, 'checkpoint-13'), why: 'weights does not match its checksum' },
      { path: join(out, 'checkpoint-12'), why: 'weights is missing' },
      { path: join(out, 'checkpoint-11'), why: 'weights has 3 bytes instead of 2' },
    ]);
  });
});

describe('pruneCheckpoints', () => {
  const steps = () => listCheckpoints(out).map(({ step }) => step);

  it('keeps the newest, and never takes a skipped later one for one of them', async () => {
    for (const step of [5, 10, 15, 100]) await writeCheckpoint(out, step, files({ a: 'x' }));
    await pruneCheckpoints(out, 2, 15);
    expect(steps()).toEqual([10, 15, 100]);
    await pruneCheckpoints(out, 1, 15);
    expect(steps()).toEqual([15, 100]);
    await pruneCheckpoints(out, 3, 15);
    expect(steps()).toEqual([15, 100]);
    expect(readdirSync(out).sort()).toEqual(['checkpoint-100', 'checkpoint-15']);
  });
});

describe('leftovers of a killed process', () => {
  it('are not taken for checkpoints, and are cleared away', async () => {
    await writeCheckpoint(out, 1, files({ a: 'x' }));
    for (const name of ['.tmp-checkpoint-2-77', '.tmp-model-77', '.tmp-removed-checkpoint-0-77']) {
      mkdirSync(join(out, name));
      writeFileSync(join(out, name, 'weights'), 'half');
    }
    writeFileSync(join(out, '.tmp-notes'), 'not ours');
    expect(await newestWholeCheckpoint(out)).toMatchObject({ checkpoint: { step: 1 }, skipped: [] });
    await removeLeftovers(out);
    expect(readdirSync(out).sort()).toEqual(['.tmp-notes', 'checkpoint-1']);
  });

  it('give a replaced checkpoint back if its successor never came, and only then', async () => {
    await writeCheckpoint(out, 3, files({ a: 'new' }));
    for (const step of [3, 4]) {
      mkdirSync(join(out, `.tmp-replaced-checkpoint-${step}-77`));
      writeFileSync(join(out, `.tmp-replaced-checkpoint-${step}-77`, 'a'), 'old');
    }
    await removeLeftovers(out);
    expect(readdirSync(out).sort()).toEqual(['checkpoint-3', 'checkpoint-4']);
    expect(readFileSync(join(out, 'checkpoint-3/a'), 'utf8')).toBe('new');
    expect(readFileSync(join(out, 'checkpoint-4/a'), 'utf8')).toBe('old');
  });
});

it('pruneCheckpoints leaves alone what others have named like a checkpoint', async () => {
  for (const step of [4, 5, 6]) await writeCheckpoint(out, step, files({ a: 'x' }));
  mkdirSync(join(out, 'checkpoint-2'));
  writeFileSync(join(out, 'checkpoint-3'), 'a file');
  await pruneCheckpoints(out, 1, 6);
  expect(readdirSync(out).sort()).toEqual(['checkpoint-2', 'checkpoint-3', 'checkpoint-6']);
});

describe('writeFinalModel', () => {
  it('replaces the model and nothing else', async () => {
    await writeCheckpoint(out, 1, files({ a: 'x' }));
    writeFileSync(join(out, 'metrics.jsonl'), 'kept');
    await writeFinalModel(
      out,
      files({
        'config.json': '1',
        'model-00001-of-00001.safetensors': '1',
        'model.safetensors.index.json': '1',
      }),
    );
    expect(await verifyCheckpoint(out)).toBeUndefined();
    await writeFinalModel(
      out,
      files({ 'config.json': '2', 'model.safetensors': '2', 'tokenizer.json': '2' }),
    );
    expect(readdirSync(out).sort()).toEqual([
      'checkpoint-1',
      'config.json',
      'manifest.json',
      'metrics.jsonl',
      'model.safetensors',
      'tokenizer.json',
    ]);
    expect(await verifyCheckpoint(out)).toBeUndefined();
    expect(readFileSync(join(out, 'metrics.jsonl'), 'utf8')).toBe('kept');
  });
});

describe('checkFreeDisk', () => {
  it('looks at the nearest directory that exists', () => {
    expect(() => checkFreeDisk(join(out, 'not/yet'), 1)).not.toThrow();
    expect(() => checkFreeDisk(join(out, 'not/yet'), 2 ** 60)).toThrow(
      /not\/yet: the disk has [\d.]+ GiB free, the checkpoints of this run need 1073741824\.0 GiB/,
    );
  });
});

describe('a process killed while it saves', () => {
  let bundle = '';
  beforeAll(async () => {
    bundle = mkdtempSync(join(tmpdir(), 'tstrain-bundle-'));
    await bundleModules(
      ['directory.ts', 'lock.ts', 'synced_file.ts'].map((name) => join(import.meta.dirname, name)),
      bundle,
    );
  });
  afterAll(() => rmSync(bundle, { recursive: true }));

  it('leaves whole checkpoints and a whole model or none, and can go on from there', async () => {
    const saving = `
      import { listCheckpoints, pruneCheckpoints, writeCheckpoint, writeFinalModel } from './directory.mjs';
      import { lockOutputDirectory } from './lock.mjs';
      import { writeSynced } from './synced_file.mjs';
      const out = ${JSON.stringify(out)};
      await lockOutputDirectory(out);
      const done = listCheckpoints(out).at(-1)?.step ?? 0;
      for (let step = done + 1; ; step++) {
        const text = Buffer.from(String(step).repeat(20000));
        const write = async (directory) => {
          const names = ['config.json', 'model.safetensors', 'tokenizer.json'];
          return Promise.all(names.map((name) => writeSynced(directory + '/' + name, (file) => file.append(text))));
        };
        await writeCheckpoint(out, step, write);
        process.stdout.write(step + '\\n');
        await pruneCheckpoints(out, 2, step);
        await writeFinalModel(out, write);
      }`;
    let newest = 0;
    let models = 0;
    const rounds = 12;
    for (let round = 0; round < rounds; round++) {
      const child = startScript(bundle, saving);
      let printed = '';
      child.stdout!.setEncoding('utf8').on('data', (text: string) => (printed += text));
      await once(child.stdout!, 'data');
      await wait(Math.random() * 60);
      await kill(child);

      const release = await lockOutputDirectory(out);
      expect(readdirSync(out).filter((name) => name.startsWith('.tmp'))).toEqual([]);
      const { checkpoint, skipped } = await newestWholeCheckpoint(out);
      expect(skipped).toEqual([]);
      for (const { path } of listCheckpoints(out)) expect(await verifyCheckpoint(path)).toBeUndefined();
      const said = Math.max(...printed.trim().split('\n').map(Number));
      expect(checkpoint!.step).toBeGreaterThanOrEqual(said);
      expect(checkpoint!.step).toBeGreaterThan(newest);
      newest = checkpoint!.step;
      if (existsSync(join(out, 'config.json'))) {
        models++;
        const [config, weights] = ['config.json', 'model.safetensors'].map((n) =>
          readFileSync(join(out, n), 'utf8'),
        );
        expect(weights).toBe(config);
      }
      release();
    }
    // Otherwise nothing was looked at.
    expect(models).toBeGreaterThan(0);
    expect(newest).toBeGreaterThanOrEqual(rounds);
  });
});
