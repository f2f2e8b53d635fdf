import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { Contender } from './contender.js';

const directory = mkdtempSync(join(tmpdir(), 'tstrain-contender-'));
const log = join(directory, 'log');
afterAll(() => rmSync(directory, { recursive: true }));

const start = (script: string) => Contender.start<object, object>(process.execPath, ['-e', script], {}, log);

it('answers a round when it is asked for one, past lines that are no JSON, and ends when told', async () => {
  const contender = await start(`
    console.log('a word of a library');
    console.log('{"ready": 1}');
    let n = 0;
    process.stdin.on('data', (lines) => { for (const _ of String(lines)) console.log(JSON.stringify({ n: ++n })); });
    process.stdin.on('end', () => console.error('ended of itself'));
  `);
  expect(contender.ready).toEqual({ ready: 1 });
  expect(await contender.round()).toEqual({ n: 1 });
  expect(await contender.round()).toEqual({ n: 2 });
  await contender.stop();
  expect(readFileSync(log, 'utf8')).toBe('ended of itself\n');
});

it('says how a process ended that does not come up', async () => {
  await expect(start(`console.error('no memory left'); process.exit(3)`)).rejects.toThrow(
    `exit status 3: no memory left (${log})`,
  );
});

it('says how a process ended in the middle of a round', async () => {
  const contender = await start(`
    console.log('{}');
    process.stdin.on('data', () => process.kill(process.pid, 'SIGKILL'));
  `);
  await expect(contender.round()).rejects.toThrow('ended by SIGKILL: it said nothing');
  await contender.stop();
});

it('says that there is no such program', async () => {
  await expect(Contender.start('/no/such/program', [], {}, log)).rejects.toThrow('ENOENT');
});
