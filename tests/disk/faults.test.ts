import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { listCheckpoints, verifyCheckpoint } from '../../engine/checkpoint/directory.js';
import { Cli, type Ended } from '../cli.js';
import { RunDirectory, randomRows, TINY } from '../tiny_run.js';
import { tinyTokenizer } from '../tiny_tokenizer.js';
import { Disk, type Fault } from './disk.js';

/** How many of the faults of a command are tried, spread over all that it does. */
const FAULTS = process.env.TSTRAIN_LONG_TESTS ? Number.POSITIVE_INFINITY : 6;

let cli: Cli;
let disk: Disk;
let template: RunDirectory;
let scratch: string;
beforeAll(async () => {
  cli = await Cli.compile();
  disk = new Disk(cli);
  template = new RunDirectory();
  scratch = mkdtempSync(join(tmpdir(), 'tstrain-faults-'));
  template.writeRows('ids.jsonl', randomRows(20, 1));
  const texts = Array.from({ length: 20 }, (_, i) => ({ instruction: `low ${i}`, output: 'lower' }));
  template.writeRows('rows.jsonl', texts);
  template.writeRows('held_out.jsonl', texts.slice(0, 4));
  writeTokenizer('tokenizer');
  template.writeConfig({
    model_config: { ...TINY, vocab_size: 320, max_position_embeddings: 320 },
    tokenizer_name_or_path: 'tokenizer',
    output_dir: 'model',
    model_max_length: 320,
    max_steps: 1,
  });
  expect(await cli.run(template.path, '--config', 'run.yaml')).toMatchObject({ status: 0 });
  template.write('model/generation_config.json', '{"eos_token_id": 7}');
  template.writeConfig({
    model_config: undefined,
    model_name_or_path: 'model',
    tokenizer_name_or_path: 'tokenizer',
    model_max_length: 320,
    max_steps: 5,
    save_strategy: 'steps',
    save_steps: 2,
    save_total_limit: 1,
    eval_strategy: 'steps',
    eval_steps: 2,
    eval_data_path: 'held_out.jsonl',
  });
}, 60_000);
afterAll(() => {
  cli.remove();
  disk.remove();
  template.remove();
  rmSync(scratch, { recursive: true });
});

/** All the files that a tokenizer can have, in the form in which each of them is read. */
function writeTokenizer(name: string): void {
  mkdirSync(template.at(name));
  const files = {
    'tokenizer.json': tinyTokenizer(),
    'tokenizer_config.json': { tokenizer_class: 'LlamaTokenizer', add_bos_token: true },
    'special_tokens_map.json': { bos_token: '<s>', eos_token: '</s>' },
    'added_tokens.json': { '<s>': 1, '</s>': 2 },
    'tokenizer.model': {},
    'chat_template.jinja': {},
  };
  for (const [file, value] of Object.entries(files)) template.write(join(name, file), JSON.stringify(value));
}

const READS = ['open', 'read', 'stat', 'fstat', 'readdir', 'statfs'];
const { EIO, EACCES, EMFILE, ESTALE, ENOSPC, EDQUOT, EROFS } = constants.errno as Record<string, number>;

/** Every call of every path, the first time and the last, with an error that such a call may end in. */
function faultsOf(log: readonly string[][]): Fault[] {
  const counts = new Map<string, number>();
  for (const [call, path] of log) counts.set(`${call}\t${path}`, (counts.get(`${call}\t${path}`) ?? 0) + 1);
  return [...counts].flatMap(([key, count], i) => {
    const [call, path] = key.split('\t');
    const errors = READS.includes(call) ? [EIO, EACCES, ESTALE, EMFILE] : [EDQUOT, EROFS, EIO, ENOSPC];
    const fault = (from: number, errno: number) => ({ call, path, from, until: 10 ** 6, errno });
    return [
      fault(1, errors[i % errors.length]),
      ...(count > 1 ? [fault(count, errors[(i + 1) % errors.length])] : []),
    ];
  });
}

/** What a message must say of a fault at a path: the file by the name it has, or is to have, for people. */
function namedBy(path: string): RegExp {
  if (path.startsWith('out/.tstrain.lock')) return /^output_dir out:/;
  // What output_dir is to be made in.
  if (path === '.') return /^(output_dir out|\/\S*\/faulty):/;
  const shown = path
    .replace(/\.tmp-removed-(checkpoint-\d+)-PID.*/, '$1')
    .replace(/\.tmp-(?:replaced-)?(checkpoint-\d+)-PID/, '$1')
    .replace(/\/\.tmp-model-PID/, '')
    .replace(/\.(?:PID\.)?tmp$/, '')
    .replaceAll('.', '\\.');
  // What is written is named first. Of what is read a key or an option may be named before it.
  return new RegExp(path.startsWith('out') ? `^(output_dir |/\\S*/)?${shown}` : `(^| )${shown}\\b`);
}

/** What is wrong with the words of a run that a fault has ended. */
function wrongWords({ status, stdout, stderr }: Ended, { path }: Fault): string[] {
  const message = stderr.replace(/^tstrain: /, '');
  // What could not be gone on from is told on the way.
  const isNamed = [message, ...stdout.split('\n')].some((line) =>
    namedBy(path).test(line.replace(' is skipped: ', '/')),
  );
  const isInput = !path.startsWith('out') && path !== '.';
  return [
    ...(status === 1 && /^tstrain: .*\n$/.test(stderr) ? [] : [`status ${status}, not one line`]),
    ...(isNamed ? [] : ['the file is not named']),
    ...(/unexpected|\bE[A-Z]{3,}\b|system error|errno|undefined/.test(message) ? ['not in words'] : []),
    ...(isInput && /output_dir|^out\b/.test(message) ? ['output_dir is blamed'] : []),
  ].map((what) => `${what}: ${stderr}`);
}

/** A new copy of a directory. */
function place(before: string, name: string): string {
  const directory = join(scratch, name);
  rmSync(directory, { recursive: true, force: true });
  cpSync(before, directory, { recursive: true });
  return directory;
}

/** The checkpoints in out/ that are not whole. */
async function torn(directory: string): Promise<string[]> {
  const found = listCheckpoints(join(directory, 'out')).map(({ path }) => path);
  const why = await Promise.all(found.map((path) => verifyCheckpoint(path)));
  return found.filter((_, i) => why[i] !== undefined);
}

/** Runs a command once for each fault, in a copy of `before`. */
async function tryFaults(before: string, args: string[], result: string | undefined): Promise<number> {
  const sound = place(before, 'sound');
  const run = await disk.run(sound, args, 'none');
  expect(run).toMatchObject({ status: 0, stderr: '' });
  // What is being saved has no name yet that a message could say, if it were read again.
  expect(run.log.filter(([call, path]) => call === 'read' && path.includes('.tmp-'))).toEqual([]);
  const all = faultsOf(run.log);
  const step = Math.max(1, all.length / FAULTS);
  let tried = 0;
  const faults: string[] = [];
  for (let at = 0; at < all.length; at += step) {
    const fault = all[Math.floor(at)];
    const directory = place(before, 'faulty');
    const ended = await disk.run(directory, args, fault);
    tried++;
    const wrong: string[] = [];
    // A fault of the cache, or while something is cleared away, may cost nothing but that.
    if (ended.status !== 0) wrong.push(...wrongWords(ended, fault));
    else if (result !== undefined && (await verifyCheckpoint(join(directory, result))) !== undefined)
      wrong.push('ended well, but the model is not whole');
    if (fault.path.startsWith('.cache') && ended.status !== 0) wrong.push('the cache is not needed');
    wrong.push(...(await torn(directory)).map((path) => `${path} is not whole`));
    const about = `${fault.call} of ${fault.path} from time ${fault.from}, errno ${fault.errno}`;
    faults.push(...wrong.map((what) => `${about}: ${what}`));
  }
  expect(faults).toEqual([]);
  return tried;
}

const TRAIN = ['--config', 'run.yaml'];

it('a run says which file was at fault, whatever of its calls fails', async () => {
  expect(await tryFaults(template.path, TRAIN, 'out')).toBeGreaterThanOrEqual(6);
}, 900_000);

it('so does one that goes on', async () => {
  const stopped = join(scratch, 'stopped');
  cpSync(template.path, stopped, { recursive: true });
  expect(await cli.run(stopped, ...TRAIN, '--set', 'save_total_limit=2')).toMatchObject({ status: 0 });
  for (const name of ['config.json', 'model.safetensors', 'manifest.json'])
    rmSync(join(stopped, 'out', name));
  expect(await tryFaults(stopped, [...TRAIN, '--resume'], 'out')).toBeGreaterThanOrEqual(6);
}, 900_000);

it.each([
  ['plan', [...TRAIN]],
  ['score', ['--model', 'model', '--data', 'rows.jsonl']],
  ['score', ['--model', 'model', '--data', 'ids.jsonl']],
  ['generate', ['--model', 'model', '--ids', '1,2', '--max-new-tokens', '2']],
  ['generate', ['--model', 'model', '--instruction', 'low', '--max-new-tokens', '2']],
  ['tokenize', ['--tokenizer', 'tokenizer']],
])(
  'so does tstrain %s %j',
  async (command, args) => {
    expect(await tryFaults(template.path, [command, ...args], undefined)).toBeGreaterThanOrEqual(6);
  },
  900_000,
);

it('a disk that takes no more, from any moment on, is told by what was not saved', async () => {
  const sound = await disk.run(place(template.path, 'sound'), TRAIN, 'none');
  const changes = sound.log.filter(([call]) => !READS.includes(call)).length;
  const step = Math.max(1, changes / (2 * FAULTS));
  let ended = 0;
  for (let at = 1; at <= changes; at += step) {
    const [errno, reason] = [
      [EROFS, 'the file system is read-only'],
      [EDQUOT, 'the disk quota is used up'],
    ][Math.floor(at) % 2] as [number, string];
    const directory = place(template.path, 'faulty');
    const fault = { call: '*', path: '*', from: Math.floor(at), until: 10 ** 6, errno };
    const { status, stderr } = await disk.run(directory, TRAIN, fault);
    const about = `from change ${fault.from} of ${changes}: ${stderr}`;
    expect(await torn(directory), about).toEqual([]);
    // Nothing but the lock was left to be removed.
    if (status === 0) expect(await verifyCheckpoint(join(directory, 'out')), about).toBeUndefined();
    else {
      ended++;
      expect({ status, stderr }, about).toEqual({
        status: 1,
        stderr: expect.stringMatching(new RegExp(`^tstrain: (output_dir )?out[^:]*: ${reason}; .*\\n$`)),
      });
      expect(stderr, about).not.toContain('lock');
    }
  }
  expect(ended).toBeGreaterThan(0);
}, 900_000);
