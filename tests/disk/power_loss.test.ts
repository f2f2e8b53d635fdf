import { appendFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listCheckpoints, verifyCheckpoint } from '../../engine/checkpoint/directory.js';
import { Cli } from '../cli.js';
import { RunDirectory, randomNumbers, randomRows } from '../tiny_run.js';
import { Disk } from './disk.js';
import { SimulatedDisk } from './power_loss.js';

/** Losses of power, at random moments of a run and of one that goes on from a damaged checkpoint. */
const LOSSES = process.env.TSTRAIN_LONG_TESTS ? 200 : 12;
const OUT = 'deep/out';

let cli: Cli;
let disk: Disk;
let whole: RunDirectory;
let scratch: string;
beforeAll(async () => {
  cli = await Cli.compile();
  disk = new Disk(cli);
  whole = new RunDirectory();
  scratch = mkdtempSync(join(tmpdir(), 'tstrain-loss-'));
}, 60_000);
afterAll(() => {
  cli.remove();
  disk.remove();
  whole.remove();
  rmSync(scratch, { recursive: true });
});

const TRAIN = ['--config', 'run.yaml'];
const WEIGHTS = 'model.safetensors';

/** What a run is made of before it starts. */
function prepare(directory: RunDirectory): void {
  directory.writeRows('rows.jsonl', randomRows(20, 1));
  directory.writeConfig({
    output_dir: OUT,
    max_steps: 12,
    logging_steps: 3,
    save_strategy: 'steps',
    save_steps: 2,
    save_total_limit: 2,
    eval_strategy: 'steps',
    eval_steps: 5,
    eval_data_path: 'rows.jsonl',
  });
}

/** Lines of metrics without what depends on the clock, by their steps; what a loss has torn is none. */
function metricsUpTo(step: number, text: string): string[] {
  return text.split('\n').flatMap((line) => {
    try {
      const { tokens_per_second: _, step_time_ms: __, ...kept } = JSON.parse(line);
      return kept.step <= step ? [JSON.stringify(kept)] : [];
    } catch {
      return [];
    }
  });
}

/** What must hold of a disk that lost its power after the run had said so much. @returns what to go on with */
async function expectWhole(directory: string, said: string, damaged?: string): Promise<string[]> {
  const out = join(directory, OUT);
  const read = (name: string) => readFileSync(join(out, name));
  const steps: number[] = [];
  for (const { path, step } of listCheckpoints(out)) {
    const why = await verifyCheckpoint(path, ['config.json', WEIGHTS, 'optimizer.safetensors']);
    if (why !== undefined && path.endsWith(`/${damaged}`)) continue;
    expect(why, path).toBeUndefined();
    steps.push(step);
  }
  const newest = steps.at(-1);
  const saved = [...said.matchAll(/^saved .*checkpoint-(\d+)$/gm)].map(([, step]) => Number(step));
  expect(newest ?? 0).toBeGreaterThanOrEqual(saved.at(-1) ?? 0);
  if (newest !== undefined) {
    expect(
      existsSync(join(out, 'metrics.jsonl')) ? metricsUpTo(newest, String(read('metrics.jsonl'))) : [],
    ).toEqual(metricsUpTo(newest, whole.text(OUT, 'metrics.jsonl')));
    expect(existsSync(join(out, 'resolved_config.yaml'))).toBe(true);
  }
  if (existsSync(join(out, 'resolved_config.yaml')))
    expect(String(read('resolved_config.yaml'))).toBe(whole.text(OUT, 'resolved_config.yaml'));
  if (said.includes('the model is in')) {
    expect(await verifyCheckpoint(out, ['config.json', WEIGHTS])).toBeUndefined();
    expect(metricsUpTo(12, String(read('metrics.jsonl')))).toHaveLength(6);
  }
  if (existsSync(join(out, 'config.json')))
    for (const name of ['config.json', WEIGHTS]) expect(read(name).equals(whole.bytes(OUT, name))).toBe(true);
  return newest === undefined ? TRAIN : [...TRAIN, '--resume'];
}

/** Loses the power at random moments of what `log` tells, looks at what is left, and goes on from there. */
async function loseAndGoOn(before: string, log: string[][], losses: number, seed: number, damaged?: string) {
  const random = randomNumbers(seed);
  let [fresh, resumed] = [0, 0];
  for (let loss = 0; loss < losses; loss++) {
    const simulated = new SimulatedDisk(before);
    // The last of them after the run has ended.
    const end = loss === losses - 1 ? log.length : Math.floor(random() * log.length);
    for (const line of log.slice(0, end)) simulated.do(line);
    const after = join(scratch, `after-${seed}`);
    mkdirSync(after);
    simulated.lose(random, after);
    const args = await expectWhole(after, simulated.said, damaged);
    if (args.length > TRAIN.length) resumed++;
    else fresh++;
    expect(await cli.run(after, ...args), `loss ${loss} after call ${end}`).toMatchObject({
      status: 0,
      stderr: '',
    });
    expect(readFileSync(join(after, OUT, WEIGHTS)).equals(whole.bytes(OUT, WEIGHTS))).toBe(true);
    expect(metricsUpTo(12, readFileSync(join(after, OUT, 'metrics.jsonl'), 'utf8'))).toEqual(
      metricsUpTo(12, whole.text(OUT, 'metrics.jsonl')),
    );
    rmSync(after, { recursive: true });
  }
  return { fresh, resumed };
}

describe('a machine that loses its power', () => {
  let log: string[][];
  let before: string;
  beforeAll(async () => {
    prepare(whole);
    before = join(scratch, 'before');
    cpSync(whole.path, before, { recursive: true });
    const run = await disk.run(whole.path, TRAIN);
    expect(run).toMatchObject({ status: 0, stderr: '' });
    log = run.log;
  });

  it('while it trains keeps what was saved, and the run ends as if nothing had been', async () => {
    // Otherwise nothing was watched.
    for (const call of ['fsync', 'rename', 'write', 'mkdir'])
      expect(log.map(([name]) => name)).toContain(call);
    const { fresh, resumed } = await loseAndGoOn(before, log, Math.ceil(0.7 * LOSSES), 1);
    expect(resumed).toBeGreaterThan(0);
    if (LOSSES > 100) expect(fresh).toBeGreaterThan(0);
  }, 900_000);

  it('while it goes on from a damaged checkpoint keeps what was saved', async () => {
    const goesOn = new RunDirectory();
    cpSync(whole.path, goesOn.path, { recursive: true });
    for (const name of ['config.json', 'manifest.json', WEIGHTS]) rmSync(goesOn.at(OUT, name));
    appendFileSync(goesOn.at(OUT, 'checkpoint-12', WEIGHTS), '!');
    const left = join(scratch, 'left');
    cpSync(goesOn.path, left, { recursive: true });
    const run = await disk.run(goesOn.path, [...TRAIN, '--resume']);
    expect(run).toMatchObject({ status: 0, stderr: '' });
    await loseAndGoOn(left, run.log, Math.floor(0.3 * LOSSES), 2, 'checkpoint-12');
    goesOn.remove();
  }, 900_000);

  it('leaves of a file that was not synced what a file system may: the simulation does lose something', () => {
    const names = new Set<string>();
    const contents = new Set<string>();
    const random = randomNumbers(3);
    for (let i = 0; i < 200; i++) {
      const empty = join(scratch, 'empty');
      mkdirSync(empty);
      const simulated = new SimulatedDisk(empty);
      for (const line of [
        ['open', '3', 'new.tmp', 'ct'],
        ['write', '3', '-1', Buffer.from('hello').toString('hex')],
        ['rename', 'new.tmp', 'new'],
      ])
        simulated.do(line);
      simulated.lose(random, empty);
      for (const name of ['new.tmp', 'new'])
        if (existsSync(join(empty, name))) {
          names.add(name);
          contents.add(readFileSync(join(empty, name), 'latin1'));
        }
      rmSync(empty, { recursive: true });
    }
    expect([...names].sort()).toEqual(['new', 'new.tmp']);
    for (const content of ['', 'hello', '\0\0\0\0\0', 'he']) expect(contents).toContain(content);
  });
});
