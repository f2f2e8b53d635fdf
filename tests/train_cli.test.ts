import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { loadConfig } from '../bin/config.js';
import { verifyCheckpoint } from '../engine/checkpoint/directory.js';
import { saveHfWeights } from '../engine/checkpoint/hf_model.js';
import { addon, defaultDevice } from '../engine/device/addon.js';
import { parseLlamaConfig } from '../engine/model/config.js';
import { Parameters } from '../engine/model/parameters.js';
import type { RunConfig } from '../recipes/settings.js';
import { Cli, type CliRun, type Ended } from './cli.js';
import { type Row, RunDirectory, randomRows, TINY } from './tiny_run.js';

let cli: Cli;
beforeAll(async () => {
  addon.setThreads(1);
  cli = await Cli.compile();
});
afterAll(() => cli.remove());

let directory: RunDirectory;
const train = (...args: string[]) => cli.run(directory.path, '--config', 'run.yaml', ...args);
const DONE = { status: 0, stderr: '' };

/** What a user sees of a fault: one line on standard error, status 1. */
const fault = (text: string) => ({ status: 1, stderr: `tstrain: ${text}\n` });

/** Checksums of all files but the token cache. */
function snapshot(): Record<string, string> {
  const files = readdirSync(directory.path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  return Object.fromEntries(
    files
      .map((file) => [
        relative(directory.path, file),
        createHash('sha256').update(readFileSync(file)).digest('hex'),
      ])
      .filter(([name]) => !name.startsWith('.cache')),
  );
}

/** Changes the state of a checkpoint that stays whole. */
function rewriteState(checkpoint: string, change: (state: Record<string, unknown>) => object): void {
  const [file, manifest] = ['trainer_state.json', 'manifest.json'].map((name) => `${checkpoint}/${name}`);
  const text = JSON.stringify(change(JSON.parse(directory.text(file))));
  const digest = {
    file: 'trainer_state.json',
    bytes: Buffer.byteLength(text),
    sha256: createHash('sha256').update(text).digest('hex'),
  };
  const { files, ...rest } = JSON.parse(directory.text(manifest)) as { files: { file: string }[] };
  directory.write(file, text);
  directory.write(
    manifest,
    JSON.stringify({ ...rest, files: files.map((entry) => (entry.file === digest.file ? digest : entry)) }),
  );
}

const checkpoints = () => directory.list('out').filter((name) => name.startsWith('checkpoint-'));

describe('a whole run', () => {
  // Each row starts with a token of its own, which tells the rest: it can be learnt by heart.
  const rows: Row[] = randomRows(8, 3, 12).map(({ ids }, i) => ({ ids: [i, ...ids, 50], prompt_len: 1 }));
  const tokens = rows.reduce((sum, { ids }) => sum + ids.length, 0);
  const labelTokens = tokens - rows.length;
  const EPOCHS = 60;
  const STEPS = 3 * EPOCHS;
  let ended: Ended;

  beforeAll(async () => {
    directory = new RunDirectory();
    directory.writeRows('rows.jsonl', rows);
    directory.writeConfig({
      num_train_epochs: EPOCHS,
      per_device_train_batch_size: 3,
      learning_rate: 2e-2,
      weight_decay: 0.01,
      logging_steps: 2,
      eval_strategy: 'epoch',
      eval_data_path: 'rows.jsonl',
      save_strategy: 'steps',
      save_steps: 50,
      save_total_limit: 2,
    });
    ended = await train();
  });
  afterAll(() => directory.remove());

  const lines = () => directory.metrics().filter((line) => line.eval_loss === undefined);
  const evals = () => directory.metrics().filter((line) => line.eval_loss !== undefined);

  it('says what it does, and ends with status 0', () => {
    expect(ended).toMatchObject(DONE);
    expect(ended.stdout).toContain(
      `rows.jsonl: 8 rows, 8 used; ${tokens} tokens, ${labelTokens} with a label`,
    );
    expect(ended.stdout).toContain(`${STEPS} steps of 1 × 3 examples into out\n`);
    expect(ended.stdout).toMatch(/\nstep 2\/180 {2}epoch 0\.67 {2}loss \d\.\d{4} {2}grad_norm /);
    expect(ended.stdout).toMatch(/\nstep 180\/180 {2}epoch 60\.00 {2}eval_loss 0\.\d{4}\n/);
    expect(ended.stdout).toMatch(/\nsaved out\/checkpoint-150\n(?:.*\n)*the model is in out\n$/);
    // No bar and no control characters in a pipe.
    expect(ended.stdout).not.toMatch(/[^\n\P{Cc}]/u);
  });

  it('writes metrics: every field, unrounded, and the sums of what was trained on', () => {
    expect(lines().map(({ step }) => step)).toEqual(Array.from({ length: STEPS / 2 }, (_, i) => 2 * i + 2));
    for (const line of lines()) {
      expect(Object.keys(line).sort()).toEqual(
        [
          'epoch',
          'grad_norm',
          'label_tokens',
          'learning_rate',
          'loss',
          'step',
          'step_time_ms',
          'tokens',
          'tokens_per_second',
        ], // prettier
      );
      expect(line.epoch).toBe(Math.floor(line.step / 3) + (line.step % 3) / 3);
      expect(line.tokens_per_second).toBeCloseTo(line.tokens / ((2 * line.step_time_ms) / 1000), 6);
    }
    expect(lines().reduce((sum, line) => sum + line.tokens, 0)).toBe(EPOCHS * tokens);
    expect(lines().reduce((sum, line) => sum + line.label_tokens, 0)).toBe(EPOCHS * labelTokens);
    // Numbers as they were computed: nearly all have at least 15 digits.
    const digits = lines().flatMap((line) => [line.loss, line.grad_norm].map((x) => String(x).length));
    expect(digits.filter((length) => length >= 15).length).toBeGreaterThan(0.9 * digits.length);
  });

  it('follows the schedule', () => {
    const warmup = Math.ceil(0.03 * STEPS);
    for (const { step, learning_rate } of lines()) {
      const at = step - 1;
      const factor =
        at < warmup ? at / warmup : (1 + Math.cos((Math.PI * (at - warmup)) / (STEPS - warmup))) / 2;
      expect(learning_rate).toBeCloseTo(2e-2 * factor, 15);
    }
  });

  it('learns: the loss falls from ln(vocabulary) to almost nothing', () => {
    const [first, last] = [lines()[0], lines().at(-1)!];
    expect(Math.abs(first.loss - Math.log(TINY.vocab_size))).toBeLessThan(0.2);
    expect(last.loss).toBeLessThan(0.05);
    expect(evals().map(({ step }) => step)).toEqual(Array.from({ length: EPOCHS }, (_, i) => 3 * i + 3));
    expect(Object.keys(evals()[0])).toEqual(['step', 'epoch', 'eval_loss']);
    expect(evals().at(-1)!.eval_loss).toBeLessThan(0.05);
  });

  it('keeps the newest checkpoints, whole, and leaves nothing else behind', async () => {
    expect(directory.list('out')).toEqual([
      'checkpoint-100',
      'checkpoint-150',
      'config.json',
      'manifest.json',
      'metrics.jsonl',
      'model.safetensors',
      'resolved_config.yaml',
    ]);
    for (const name of checkpoints())
      expect(await verifyCheckpoint(directory.at('out', name))).toBeUndefined();
    expect(await verifyCheckpoint(directory.at('out'))).toBeUndefined();
  });

  it('saves settings that make the same run again', async () => {
    expect(loadConfig(directory.at('out/resolved_config.yaml'), [], { checkPaths: false })).toEqual(
      loadConfig(directory.at('run.yaml'), [], { checkPaths: false }),
    );
    const again = await cli.run(
      directory.path,
      '--config',
      'out/resolved_config.yaml',
      '--set',
      'output_dir=again',
    );
    expect(again).toMatchObject(DONE);
    expect(directory.bytes('again/model.safetensors').equals(directory.bytes('out/model.safetensors'))).toBe(
      true,
    );
    expect(directory.untimedMetrics('again')).toBe(directory.untimedMetrics());
  });

  it('saves a model that tstrain score and tstrain generate open', async () => {
    const score = await cli.run(
      directory.path,
      ...['score', '--model', 'out', '--data', 'rows.jsonl', '--json', '--threads', '1'],
    );
    expect(score).toMatchObject(DONE);
    const total = JSON.parse(score.stdout.trimEnd().split('\n').at(-1)!);
    expect(total.label_tokens).toBe(labelTokens);
    // The same sums in another order, in float32.
    expect(Math.abs(total.loss - evals().at(-1)!.eval_loss)).toBeLessThan(1e-6);

    const [start, ...rest] = rows[5].ids;
    const generated = await cli.run(
      directory.path,
      ...[
        'generate',
        '--model',
        'out',
        '--ids',
        String(start),
        '--max-new-tokens',
        String(rest.length),
        '--json',
      ],
    );
    expect(generated).toMatchObject({ status: 0 });
    expect(JSON.parse(generated.stdout).ids).toEqual(rest);
  });
});

describe('tstrain --config', () => {
  beforeEach(() => {
    directory = new RunDirectory();
    directory.writeRows('rows.jsonl', randomRows(10, 4));
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    directory.remove();
  });

  it('takes --set over the file', async () => {
    directory.writeConfig({ max_steps: 9 });
    const set = ['--set', 'max_steps=2', '--set', 'output_dir=other', '--set', 'seed=7'];
    expect(await train(...set)).toMatchObject(DONE);
    expect(directory.metrics('other').map(({ step }) => step)).toEqual([1, 2]);
    expect(directory.text('other/resolved_config.yaml')).toMatch(/^seed: 7$/m);
    expect(existsSync(directory.at('out'))).toBe(false);
  });

  it('saves and evaluates at the end of each epoch, the one that a run ends in included', async () => {
    // 10 rows by 4: three steps an epoch.
    directory.writeConfig({
      max_steps: 8,
      save_strategy: 'epoch',
      eval_strategy: 'epoch',
      eval_data_path: 'rows.jsonl',
    });
    expect(await train()).toMatchObject(DONE);
    expect(checkpoints()).toEqual(['checkpoint-3', 'checkpoint-6', 'checkpoint-8']);
    expect(
      directory
        .metrics()
        .filter((line) => 'eval_loss' in line)
        .map(({ step }) => step),
    ).toEqual([3, 6, 8]);
  });

  describe('refuses, with one line and without touching anything:', () => {
    const none = () => {};
    it.each<[string, () => void, string[], string]>([
      [
        'an unknown key',
        () => directory.write('run.yaml', `${directory.text('run.yaml')}learing_rate: 1e-3\n`),
        [],
        'run.yaml:15: unknown key "learing_rate"; did you mean "learning_rate"?',
      ],
      ['a config that is not there', none, ['--config', 'rum.yaml'], 'rum.yaml: no such file: rum.yaml'],
      [
        'a data file that is not there',
        none,
        ['--set', 'data_path=nowhere.json'],
        '--set data_path=nowhere.json: data_path: no such file: nowhere.json',
      ],
      ['--set without a value', none, ['--set', 'seed'], '--set seed: expected key=value'],
      [
        'an empty data file',
        () => directory.write('rows.jsonl', ''),
        [],
        'rows.jsonl is empty: expected a JSON array of rows, or one row a line.',
      ],
      [
        'data without a label',
        () => directory.writeRows('rows.jsonl', [{ ids: [1, 2, 3], prompt_len: 3 }]),
        [],
        'rows.jsonl: none of its 1 rows has a label to learn from. A row needs at least two ids and a label on one ' +
          'that is not its first.',
      ],
      [
        'ids beyond the vocabulary',
        () => directory.writeRows('rows.jsonl', [...randomRows(3, 5), { ids: [1, 2, 53], prompt_len: 1 }]),
        [],
        "rows.jsonl, row 3: id 53 is outside the model's vocabulary of 53 (ids 0 to 52). The data or the tokenizer " +
          'belongs to another model.',
      ],
      [
        '--resume with nothing there',
        none,
        ['--resume'],
        'output_dir out: no such directory; there is nothing to resume',
      ],
      [
        'gradients in bfloat16 without bf16',
        none,
        ['--set', 'gradient_dtype=bfloat16'],
        '--set gradient_dtype=bfloat16: gradient_dtype: bfloat16 needs bf16: true; set that too, or leave gradient_dtype at ' +
          'float32',
      ],
      [
        'a device that this build has not',
        none,
        ['--set', 'device=tpu'],
        `--set device=tpu: device: "tpu" is not in this build, which has ${addon.devices().join(', ')}; auto takes the best ` +
          'there is',
      ],
    ])('%s', async (_, prepare, args, text) => {
      directory.writeConfig();
      prepare();
      const before = snapshot();
      // A later --config wins over the first.
      expect(await train(...args)).toMatchObject(fault(text));
      expect(snapshot()).toEqual(before);
    });
  });

  it('never computes with fewer threads than it says: oneDNN would leave parts out', async () => {
    vi.stubEnv('OMP_THREAD_LIMIT', '1');
    directory.writeConfig({ max_steps: 1, threads: 2 });
    expect(await train()).toMatchObject(
      fault(
        'OpenMP grants 1 of 2 threads (OMP_THREAD_LIMIT and OMP_MAX_ACTIVE_LEVELS bound them); ask for no more than ' +
          'that by `threads` or TSTRAIN_NUM_THREADS',
      ),
    );
    directory.writeConfig({ max_steps: 1, threads: undefined });
    expect((await train()).stdout).toMatch(/ 1 thread, /);
  });

  it('refuses an output_dir with checkpoints, and continuations that would be another run', async () => {
    directory.writeConfig({ max_steps: 4, save_strategy: 'steps', save_steps: 2 });
    expect(await train()).toMatchObject(DONE);
    const before = snapshot();
    expect(await train()).toMatchObject(
      fault(
        'out: output_dir already has checkpoints; --resume goes on from the newest, or choose another output_dir',
      ),
    );
    const changed = (key: string, is: unknown, was: unknown) =>
      `--resume: ${key} is ${is}, but out/checkpoint-4 was made with ${was}; set it back, or start a new run in ` +
      'another output_dir';
    const cases: [string[], string][] = [
      [['seed=1'], changed('seed', 1, 42)],
      [['per_device_train_batch_size=2'], changed('per_device_train_batch_size', 2, 4)],
      [['gradient_accumulation_steps=2'], changed('gradient_accumulation_steps', 2, 1)],
      [['bf16=true'], changed('bf16', true, false)],
      [['optimizer_state_dtype=bfloat16'], changed('optimizer_state_dtype', '"bfloat16"', '"float32"')],
      [['packing=true'], changed('packing', true, false)],
      [['model_max_length=16'], changed('model_max_length', 16, 32)],
      [['data_order=sequential'], changed('data_order', '"sequential"', '"shuffled"')],
      [
        ['loss_normalization=mean_of_means'],
        changed('loss_normalization', '"mean_of_means"', '"token_mean"'),
      ],
      [
        [`model_config=${JSON.stringify({ ...TINY, rms_norm_eps: 1e-5 })}`],
        changed("the model's rms_norm_eps", 0.00001, 0.000001),
      ],
      [
        ['data_path=other.jsonl'],
        '--resume: data_path other.jsonl no longer holds the rows that out/checkpoint-4 was trained on; put them ' +
          'back (the tokenizer counts too), or start a new run in another output_dir',
      ],
    ];
    directory.writeRows('other.jsonl', randomRows(10, 5));
    for (const [set, text] of cases)
      expect(await train('--resume', ...set.flatMap((s) => ['--set', s]))).toMatchObject(fault(text));
    expect(snapshot()).toEqual({ ...before, 'other.jsonl': expect.anything() });
  });

  it('refuses an output_dir that holds a model, whoever made it', async () => {
    directory.writeConfig({ max_steps: 2 });
    expect(await train()).toMatchObject(DONE);
    const before = snapshot();
    const text = (path: string) =>
      `${path}: output_dir already holds a model, which this run would replace; choose another output_dir, or delete ` +
      'it first';
    expect(await train('--set', 'seed=3')).toMatchObject(fault(text('out')));
    symlinkSync('out', directory.at('link'));
    const tune = ['--set', 'model_config=null', '--set', 'model_name_or_path=out'];
    expect(await train(...tune, '--set', 'output_dir=link')).toMatchObject(
      fault(
        '--set output_dir=link: output_dir: must not be model_name_or_path: the run would overwrite the model it ' +
          'starts from',
      ),
    );
    expect(snapshot()).toEqual(before);
  });

  it('leaves a config that lies in its own output_dir as it is', async () => {
    directory.writeConfig({ max_steps: 1, output_dir: '.' });
    const text = directory.text('run.yaml');
    expect(await train()).toMatchObject(DONE);
    expect(directory.text('run.yaml')).toBe(text);
    expect(directory.list()).toContain('resolved_config.yaml');
  });

  it('goes on with a checkpoint of version 1, and not with one of another objective', async () => {
    directory.writeConfig({ max_steps: 6, save_strategy: 'steps', save_steps: 2, logging_steps: 4 });
    expect(await train()).toMatchObject(DONE);
    const model = directory.bytes('out/model.safetensors');
    const lines = directory.metrics().map(({ loss }) => loss);
    renameSync(directory.at('out/checkpoint-6'), directory.at('out/later'));
    renameSync(directory.at('out/checkpoint-4'), directory.at('out/late'));

    rewriteState('out/checkpoint-2', ({ objective: _, ...state }) => {
      const { measures: __, ...sinceLine } = state.since_line as Record<string, unknown>;
      // Nor were there these keys.
      const { gradient_dtype: ___, optimizer_state_dtype: ____, ...config } = state.config as RunConfig;
      return { ...state, version: 1, since_line: sinceLine, config };
    });
    expect(await train('--resume')).toMatchObject(DONE);
    expect(directory.bytes('out/model.safetensors')).toEqual(model);
    expect(directory.metrics().map(({ loss }) => loss)).toEqual(lines);

    rewriteState('out/checkpoint-6', (state) => ({ ...state, objective: 'pairs' }));
    expect(await train('--resume', '--set', 'max_steps=8')).toMatchObject(
      fault(
        '--resume: out/checkpoint-6 was made with the objective pairs, this run has next_token; start a new run in ' +
          'another output_dir',
      ),
    );
  });

  it('refuses to go on with a run that is to end before, and goes on with the newest checkpoint that it can', async () => {
    directory.writeConfig({ max_steps: 6, save_strategy: 'steps', save_steps: 2 });
    expect(await train()).toMatchObject(DONE);
    expect(await train('--resume', '--set', 'max_steps=4')).toMatchObject(
      fault(
        '--resume: out/checkpoint-6 has done 6 steps, and max_steps makes 4 in all; raise it, or start a new run in ' +
          'another output_dir',
      ),
    );
    const model = directory.bytes('out/model.safetensors');
    directory.write('out/checkpoint-6/manifest.json', '{"files": []}');
    renameSync(directory.at('out/checkpoint-4'), directory.at('out/checkpoint-5'));
    const { status, stdout } = await train('--resume');
    expect(status).toBe(0);
    expect(stdout).toContain('out/checkpoint-6 is skipped: manifest.json does not list config.json\n');
    expect(stdout).toContain('out/checkpoint-5 is skipped: trainer_state.json is of step 4\n');
    expect(stdout).toContain('\nresuming after step 2 of 6 from out/checkpoint-2\n');
    expect(directory.bytes('out/model.safetensors').equals(model)).toBe(true);
  });

  it('goes on when nobody reads its output any more, and says when its output cannot be written', async () => {
    directory.writeConfig({ max_steps: 40 });
    const run = cli.start(directory.path, ['--config', 'run.yaml']);
    await run.printed(/step 1\//);
    run.child.stdout!.destroy();
    expect(await run.ended).toMatchObject({ status: 0, stderr: '' });
    expect(directory.metrics()).toHaveLength(40);

    const full = openSync('/dev/full', 'w');
    const plan = spawnSync(process.execPath, [cli.file, 'plan', '--config', 'run.yaml'], {
      cwd: directory.path,
      stdio: ['ignore', full, 'pipe'],
      encoding: 'utf8',
    });
    closeSync(full);
    expect(plan).toMatchObject({
      status: 1,
      stderr: 'tstrain: standard output: the disk is full; nothing more was written\n',
    });
  });

  it('says in one line why an output_dir cannot be used, and makes none for a run that does not start', async () => {
    directory.writeConfig({ max_steps: 1 });
    directory.write('taken', '');
    expect(await train('--set', 'output_dir=taken')).toMatchObject(
      fault('output_dir taken: something else of this name is there; choose another, or mend that'),
    );
    expect(await train('--set', 'output_dir=taken/out')).toMatchObject(
      fault('output_dir taken/out: a part of the path is not a directory; choose another, or mend that'),
    );
    directory.write('rows.jsonl', '');
    expect(await train('--set', 'output_dir=a/b')).toMatchObject({ status: 1, stdout: '' });
    expect(directory.list()).not.toContain('a');
  });

  it('resumes with other settings where that is still the same run, and says what changed', async () => {
    directory.writeConfig({ max_steps: 4, save_strategy: 'steps', save_steps: 2 });
    expect(await train()).toMatchObject(DONE);
    const { status, stdout } = await train('--resume', '--set', 'max_steps=6', '--set', 'threads=2');
    expect(status).toBe(0);
    expect(stdout).toContain('\nchanged since out/checkpoint-4: max_steps was 4, is 6\n');
    expect(stdout).toContain(
      '\nchanged since out/checkpoint-4: threads was 1, is 2; the run goes on, but not bit for bit as it would have\n',
    );
    expect(stdout).toContain('\nresuming after step 4 of 6 from out/checkpoint-4\n');
    expect(directory.metrics().map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('passes over a damaged checkpoint when it resumes, and says so', async () => {
    directory.writeConfig({ max_steps: 6, save_strategy: 'steps', save_steps: 2 });
    expect(await train()).toMatchObject(DONE);
    const [model, metrics] = [directory.bytes('out/model.safetensors'), directory.untimedMetrics()];
    appendFileSync(directory.at('out/checkpoint-6/model.safetensors'), '!');
    const resumed = await train('--resume');
    expect(resumed).toMatchObject(DONE);
    expect(resumed.stdout).toMatch(
      /^out\/checkpoint-6 is skipped: model\.safetensors has \d+ bytes instead of \d+\n/,
    );
    expect(resumed.stdout).toContain('\nresuming after step 4 of 6 from out/checkpoint-4\n');
    expect(directory.bytes('out/model.safetensors').equals(model)).toBe(true);
    expect(directory.untimedMetrics()).toBe(metrics);
    expect(await verifyCheckpoint(directory.at('out/checkpoint-6'))).toBeUndefined();
  });

  it('keeps a second run out of the directory', async () => {
    directory.writeConfig({ num_train_epochs: 100_000 });
    const first = cli.start(directory.path, ['--config', 'run.yaml']);
    await first.printed(/steps of/);
    expect(await train()).toMatchObject({
      status: 1,
      stdout: '',
      stderr: expect.stringMatching(
        new RegExp(
          `^tstrain: out: another run is writing here \\(process ${first.child.pid} on .*\\); wait for it, or choose ` +
            'another output_dir\n$',
        ),
      ),
    });
    expect(await train('--resume')).toMatchObject({ status: 1, stdout: '' });
    first.signal('SIGKILL');
    await first.ended;
    // Nobody has to delete anything after a kill.
    expect(await train('--set', 'max_steps=1')).toMatchObject(DONE);
  });

  describe('Ctrl-C', () => {
    const start = async (): Promise<CliRun> => {
      const run = cli.start(directory.path, ['--config', 'run.yaml']);
      expect(await run.printed(/steps of/)).toBe(true);
      return run;
    };

    it.each([
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const)(
      '(%s) finishes the step, saves and says how to go on; the end is the same',
      async (signal, expected) => {
        vi.stubEnv('npm_command', 'exec');
        directory.writeConfig({ max_steps: 600, logging_steps: 7 });
        expect(await train('--set', 'output_dir=whole')).toMatchObject(DONE);
        const run = await start();
        await run.printed(/step 70\//);
        // As a Ctrl-C on `npx tstrain` comes: from the terminal, and from npm.
        for (let i = 0; i < 2; i++) run.signal(signal);
        const { status, stdout, stderr } = await run.ended;
        expect({ status, stderr }).toEqual({ status: expected, stderr: '' });
        expect(stdout).toContain('\nfinishing this step, then saving; once more stops at once\n');
        const [, step, command] = /\nstopped after step (\d+); go on with: tstrain (.*)\n$/.exec(stdout)!;
        expect(Number(step)).toBeGreaterThanOrEqual(70);
        expect(checkpoints()).toEqual([`checkpoint-${step}`]);
        expect(existsSync(directory.at('out/model.safetensors'))).toBe(false);

        expect(await cli.run(directory.path, ...command.split(' '))).toMatchObject(DONE);
        expect(
          directory.bytes('out/model.safetensors').equals(directory.bytes('whole/model.safetensors')),
        ).toBe(true);
        expect(directory.untimedMetrics()).toBe(directory.untimedMetrics('whole'));
      },
    );

    it('goes on when the terminal of a run whose output is a pipe ends, as nohup wants it', async () => {
      directory.writeConfig({ max_steps: 100 });
      const run = await start();
      await run.printed(/step 5\//);
      run.signal('SIGHUP');
      expect(await run.ended).toMatchObject(DONE);
      expect(directory.metrics()).toHaveLength(100);
    });

    it('twice stops within the step, without saving', async () => {
      // One step of thousands of micro-batches: it takes seconds.
      directory.writeRows('rows.jsonl', randomRows(20_000, 6));
      directory.writeConfig({
        per_device_train_batch_size: 1,
        gradient_accumulation_steps: 20_000,
        max_steps: 3,
      });
      const run = await start();
      run.signal('SIGINT');
      await run.printed(/finishing this step/);
      await wait(200);
      run.signal('SIGINT');
      const { status, stdout, stderr } = await run.ended;
      expect({ status, stderr }).toEqual({ status: 130, stderr: '' });
      expect(stdout).toContain('\nstopping at once\n');
      expect(stdout).toMatch(/\nstopped in the first step, without saving\n$/);
      expect(directory.list('out')).toEqual(['resolved_config.yaml']);
    });

    it('twice stops within an evaluation', async () => {
      directory.writeRows('held_out.jsonl', randomRows(40_000, 6));
      directory.writeConfig({
        eval_strategy: 'steps',
        eval_data_path: 'held_out.jsonl',
        per_device_eval_batch_size: 1,
      });
      const run = await start();
      await run.printed(/step 1\//);
      run.signal('SIGINT');
      await run.printed(/finishing this evaluation/);
      await wait(200);
      run.signal('SIGINT');
      const { status, stdout } = await run.ended;
      expect(status).toBe(130);
      expect(stdout).toMatch(/\nstopped after step 1, without saving\n$/);
      expect(directory.list('out')).toEqual(['metrics.jsonl', 'resolved_config.yaml']);
      expect(directory.metrics()).toEqual([expect.not.objectContaining({ eval_loss: expect.anything() })]);
    });

    describe('while the final model is written', () => {
      /** A run of one step whose model takes a while to write, when it has begun to. */
      const startWriting = async (): Promise<CliRun> => {
        // Two signals at once are two: no npm passes the terminal's on.
        vi.stubEnv('npm_command', undefined);
        directory.writeConfig({
          model_config: { ...TINY, vocab_size: 40_000, hidden_size: 256 },
          max_steps: 2,
          per_device_train_batch_size: 1,
        });
        const run = await start();
        while (!directory.list('out').some((name) => name.startsWith('.tmp-model-'))) await wait(1);
        run.signal('SIGINT');
        expect(
          await run.printed(/all steps are done: saving what is left to save, .*; once more stops at once\n/),
        ).toBe(true);
        return run;
      };

      it('lets it be finished, and says so', async () => {
        const { status, stdout, stderr } = await (await startWriting()).ended;
        expect({ status, stderr }).toEqual({ status: 130, stderr: '' });
        expect(stdout).not.toContain('finishing this step');
        expect(stdout).toMatch(/\nthe model is in out\n$/);
        expect(await verifyCheckpoint(directory.at('out'), ['model.safetensors'])).toBeUndefined();
      });

      it('twice gives it up, and leaves nothing of it', async () => {
        const run = await startWriting();
        run.signal('SIGINT');
        const { status, stdout, stderr } = await run.ended;
        expect({ status, stderr }).toEqual({ status: 130, stderr: '' });
        expect(stdout).toMatch(/\nstopping at once\nstopped after step 2, without saving\n$/);
        expect(directory.list('out')).toEqual(['metrics.jsonl', 'resolved_config.yaml']);
      });
    });

    it.each([{ max_steps: 1e15 }, { num_train_epochs: 1e14 }, { max_steps: 1e15, packing: true }])(
      'is heard in a run of %j, whose steps nothing walks',
      async (settings) => {
        directory.writeConfig(settings);
        const run = await start();
        await run.printed(/step 1\//);
        run.signal('SIGINT');
        const { status, stdout } = await run.ended;
        expect(status).toBe(130);
        expect(stdout).toMatch(/\nstopped after step \d+; go on with: /);
      },
    );

    it('while data is read stops at once', async () => {
      directory.writeRows('rows.jsonl', randomRows(100_000, 6));
      directory.writeConfig();
      const run = cli.start(directory.path, ['--config', 'run.yaml']);
      while (!existsSync(directory.at('out/.tstrain.lock'))) await wait(5);
      run.signal('SIGINT');
      expect(await run.ended).toEqual({ status: 130, stdout: '', stderr: '' });
      expect(directory.list('out')).toEqual([]);
    });
  });

  describe('numbers that are not finite', () => {
    it('stop the run before the update: too high a learning rate', async () => {
      directory.writeConfig({
        learning_rate: 1e30,
        lr_scheduler_type: 'constant',
        data_order: 'sequential',
        save_strategy: 'steps',
        save_steps: 1,
      });
      const { status, stderr } = await train();
      expect(status).toBe(1);
      expect(stderr).toMatch(
        /^tstrain: step 2: the loss is NaN; the first gradient that is not finite is that of model\.embed_tokens\.weight \(rows 4, 5, 6, 7\)\. The weights were not updated, and checkpoints saved earlier are whole\. .*\n$/,
      );
      expect(checkpoints()).toEqual(['checkpoint-1']);
      expect(await verifyCheckpoint(directory.at('out/checkpoint-1'))).toBeUndefined();
      expect(directory.metrics().map(({ step }) => step)).toEqual([1]);
      expect(existsSync(directory.at('out/model.safetensors'))).toBe(false);
    });

    it('stop all updates from their step on, however late they are looked at', async () => {
      directory.writeConfig({
        learning_rate: 1e30,
        lr_scheduler_type: 'constant',
        data_order: 'sequential',
        logging_steps: 5,
      });
      const { status, stderr } = await train();
      expect(status).toBe(1);
      // The gradients of that step are gone by then, so no tensor is named.
      expect(stderr).toMatch(
        /^tstrain: step 2: the loss is NaN \(rows 4, 5, 6, 7\)\. The weights were not updated, .*\n$/,
      );
      expect(directory.list('out')).toEqual(['resolved_config.yaml']);
    });

    it('are not saved when an update makes them', async () => {
      directory.writeConfig({ max_steps: 1, learning_rate: 1e39, lr_scheduler_type: 'constant' });
      expect(await train()).toMatchObject({
        status: 1,
        stderr:
          'tstrain: step 1: the weights are no longer finite numbers, so they are not saved; checkpoints saved ' +
          'earlier are whole. A lower learning_rate or a longer warm-up is where to start\n',
      });
      expect(directory.list('out')).toEqual(['metrics.jsonl', 'resolved_config.yaml']);
    });

    it('name the rows of the micro-batch that has them', async () => {
      // Only token 52 reaches the first hidden dimension, and that one overflows in the head.
      const config = parseLlamaConfig(TINY, 'tiny');
      const { vocab_size: vocab, hidden_size: hidden, intermediate_size: intermediate } = TINY;
      const parameters = new Parameters(config, defaultDevice(), 'fp32');
      parameters.initialize(1);
      const change = (name: string, update: (values: Float32Array) => void) => {
        const tensor = parameters.tensor(name);
        const values = tensor.floats();
        update(values);
        tensor.write(values);
        tensor.dispose();
      };
      change('model.embed_tokens.weight', (values) => {
        for (let id = 0; id < vocab; id++) values[id * hidden] = id === 52 ? 1 : 0;
      });
      for (const layer of [0, 1]) {
        change(`model.layers.${layer}.self_attn.o_proj.weight`, (values) => values.fill(0, 0, hidden));
        change(`model.layers.${layer}.mlp.down_proj.weight`, (values) => values.fill(0, 0, intermediate));
      }
      change('lm_head.weight', (values) => {
        for (let id = 0; id < vocab; id++) values[id * hidden] = 3e38;
      });
      await saveHfWeights(directory.path, config, parameters);
      parameters.dispose();
      directory.write('config.json', JSON.stringify({ model_type: 'llama', ...TINY }));

      const rows = randomRows(6, 8).map(({ ids }) => ({ ids: ids.map((id) => id % 52), prompt_len: 1 }));
      rows[3].ids[0] = 52;
      directory.writeRows('rows.jsonl', rows);
      directory.writeConfig({
        model_config: undefined,
        model_name_or_path: '.',
        data_order: 'sequential',
        per_device_train_batch_size: 2,
        gradient_accumulation_steps: 3,
      });
      expect(await train()).toMatchObject({
        status: 1,
        stderr: expect.stringMatching(/^tstrain: step 1: the loss is NaN; .*\(rows 2, 3\)\. .*\n$/),
      });
      expect(directory.list('out')).toEqual(['resolved_config.yaml']);
    });
  });
});
