import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { bundleModules, kill, startScript } from '../../tests/child.js';
import { lockOutputDirectory } from './lock.js';

let out = '';
beforeEach(() => {
  out = mkdtempSync(join(tmpdir(), 'tstrain-lock-'));
});
afterEach(() => rmSync(out, { recursive: true }));

const lock = () => join(out, '.tstrain.lock');

describe('lockOutputDirectory', () => {
  it('makes the directory, refuses a second run of the same process, and can be taken again', async () => {
    const directory = join(out, 'a/b');
    const release = await lockOutputDirectory(directory);
    expect(statSync(directory).isDirectory()).toBe(true);
    for (const _ of ['refused', 'refused again: the lock is still there'])
      await expect(lockOutputDirectory(directory)).rejects.toThrow(`(process ${process.pid} on `);
    release();
    (await lockOutputDirectory(directory))();
  });

  it('knows a process by its start time too, because pids are used again', async () => {
    const release = await lockOutputDirectory(out);
    const holder = JSON.parse(readFileSync(lock(), 'utf8'));
    release();
    writeFileSync(lock(), JSON.stringify({ ...holder, startTime: '1' }));
    (await lockOutputDirectory(out))();
    expect(readdirSync(out)).toEqual([]);
  });

  it('does not guess about another machine or container, and says what to do', async () => {
    const release = await lockOutputDirectory(out);
    const holder = JSON.parse(readFileSync(lock(), 'utf8'));
    release();
    for (const other of [{ namespace: 'pid:[1]' }, { boot: 'x', host: 'elsewhere' }]) {
      writeFileSync(lock(), JSON.stringify({ ...holder, ...other }));
      await expect(lockOutputDirectory(out)).rejects.toThrow(`if that run has ended, delete ${lock()}`);
    }
    writeFileSync(lock(), JSON.stringify({ ...holder, boot: 'before the restart' }));
    (await lockOutputDirectory(out))();
    for (const text of ['', 'null', '5', '{}']) {
      writeFileSync(lock(), text);
      (await lockOutputDirectory(out))();
    }
    expect(readdirSync(out)).toEqual([]);
  });

  it('clears away the drafts of killed processes, and directories that it made for nothing', async () => {
    // No such process: pids end below 2²².
    for (const name of ['.tstrain.lock.4194304', '.tstrain.lock.after-0123456789abcdef'])
      writeFileSync(join(out, name), '');
    (await lockOutputDirectory(out))();
    expect(readdirSync(out)).toEqual([]);
    (await lockOutputDirectory(join(out, 'a/b')))();
    expect(readdirSync(out)).toEqual([]);
  });
});

describe('processes', () => {
  let bundle = '';
  beforeAll(async () => {
    bundle = mkdtempSync(join(tmpdir(), 'tstrain-bundle-'));
    await bundleModules([join(import.meta.dirname, 'lock.ts')], bundle);
  });
  afterAll(() => rmSync(bundle, { recursive: true }));

  const start = (script: string) =>
    startScript(
      bundle,
      `import { lockOutputDirectory } from './lock.mjs'; const out = ${JSON.stringify(out)}; ${script}`,
    );

  it('cannot lock what another holds, until that has ended', async () => {
    const child = start(
      "await lockOutputDirectory(out); console.log('locked'); setInterval(() => {}, 1000);",
    );
    await once(child.stdout!, 'data');
    await expect(lockOutputDirectory(out)).rejects.toThrow(
      `${out}: another run is writing here (process ${child.pid} on `,
    );
    await kill(child);
    (await lockOutputDirectory(out))();
    expect(readdirSync(out)).toEqual([]);
  });

  it('release the lock when they exit', async () => {
    const child = start('await lockOutputDirectory(out); process.exit(0);');
    await once(child, 'exit');
    expect(readdirSync(out)).toEqual([]);
  });

  it('that find a dead lock at the same time do not both take it', async () => {
    const dead = start("await lockOutputDirectory(out); console.log('locked'); setInterval(() => {}, 1000);");
    await once(dead.stdout!, 'data');
    await kill(dead);
    const contenders = Array.from({ length: 4 }, () =>
      start(`await lockOutputDirectory(out).then(
        () => { console.log('locked'); setInterval(() => {}, 1000); },
        () => console.log('refused'),
      );`),
    );
    const answers = await Promise.all(
      contenders.map(async (c) => String((await once(c.stdout!, 'data'))[0]).trim()),
    );
    expect(answers.sort()).toEqual(['locked', 'refused', 'refused', 'refused']);
    for (const child of contenders) await kill(child);
  });

  it('that start at one instant on what several crashes left do not both take it', async () => {
    const release = await lockOutputDirectory(out);
    const ended = JSON.stringify({ ...JSON.parse(readFileSync(lock(), 'utf8')), startTime: '1' });
    release();
    // A holder that was killed, and another that was while it took the lock over.
    const before = createHash('sha256').update('.tstrain.lock').update(ended).digest('hex').slice(0, 16);
    const left = ['.tstrain.lock', '.tstrain.lock.takeover'];
    const rounds = process.env.TSTRAIN_LONG_TESTS ? 2000 : 100;
    for (let round = 0; round < rounds; round++) {
      const directory = join(out, String(round));
      mkdirSync(directory);
      for (const name of left) writeFileSync(join(directory, name), ended);
      if (round % 2 === 0) {
        writeFileSync(join(directory, `.tstrain.lock.after-${before}`), ended);
      }
    }
    const starts = 8;
    const begin = Date.now() + 1000;
    const contenders = Array.from({ length: starts }, () =>
      start(`
        process.setMaxListeners(0);
        const results = [];
        for (let round = 0; round < ${rounds}; round++) {
          while (Date.now() < ${begin} + 25 * round);
          results.push(await lockOutputDirectory(out + '/' + round).then(() => 'locked', (error) => error.message));
        }
        process.stdout.write(JSON.stringify(results), () => setInterval(() => {}, 1000));`),
    );
    const results = await Promise.all(
      contenders.map(async (child) => {
        let text = '';
        for await (const part of child.stdout!) {
          text += part;
          if (text.endsWith(']')) break;
        }
        return JSON.parse(text) as string[];
      }),
    );
    for (const child of contenders) await kill(child);
    for (let round = 0; round < rounds; round++) {
      const answers = results.map((result) => result[round]);
      const refused = answers.filter((answer) => answer.includes('another run is writing here'));
      expect(
        [refused.length, answers.filter((answer) => answer === 'locked').length],
        `round ${round}`,
      ).toEqual([starts - 1, 1]);
    }
  }, 240_000);
});
