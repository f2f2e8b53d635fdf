import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { version } from '../recipes/version.js';
import { main } from './main.js';

/** The exit status and what was printed; commander writes to the streams, errors go through the console. */
async function run(...argv: string[]) {
  let stdout = '';
  let stderr = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => Boolean((stdout += text)));
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => Boolean((stderr += text)));
  vi.spyOn(console, 'log').mockImplementation((text) => void (stdout += `${text}\n`));
  vi.spyOn(console, 'error').mockImplementation((text) => void (stderr += `${text}\n`));
  const status = await main(argv);
  vi.restoreAllMocks();
  return { status, stdout, stderr };
}

afterEach(() => {
  vi.unstubAllEnvs();
  process.exitCode = undefined;
});

describe('tstrain', () => {
  it('prints its version and its help on standard output', async () => {
    expect(await run('--version')).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
    const { status, stdout } = await run('--help');
    expect(status).toBe(0);
    expect(stdout).toContain('tstrain --config FILE [--resume] [--set key=value ...]');
    for (const command of ['plan', 'score', 'generate', 'tokenize', 'doctor'])
      expect(stdout).toContain(command);
  });

  it('shows the options of a command', async () => {
    const { status, stdout } = await run('tokenize', '--help');
    expect(status).toBe(0);
    expect(stdout).toContain('Usage: tstrain tokenize [options]');
    expect(stdout).toContain('--tokenizer <dir>');
  });

  it.each([
    [[], 'Usage: tstrain --config FILE'],
    [['doktor'], "tstrain: unknown command 'doktor'; did you mean doctor?"],
    [
      ['xyz'],
      "tstrain: unknown command 'xyz'; there are plan, score, generate, tokenize, quickstart, doctor",
    ],
    [['train'], 'tstrain: training has no command of its own: tstrain --config FILE'],
    [['--confg', 'a.yaml'], "tstrain: unknown option '--confg' (Did you mean --config?)\n"],
    [['tokenize'], "tstrain: required option '--tokenizer <dir>' not specified"],
    [['doctor', 'extra'], 'tstrain: too many arguments'],
  ])('status 2 and the reason on standard error: %j', async (argv, text) => {
    const { status, stdout, stderr } = await run(...argv);
    expect(status).toBe(2);
    expect(stderr).toContain(text);
    expect(stdout).toBe('');
  });

  it('prints one line for what the user can mend', async () => {
    const { status, stdout, stderr } = await run('tokenize', '--tokenizer', '/nowhere');
    expect(status).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^tstrain: .*\/nowhere.*\n$/);
  });

  it('expands ~ where the shell does not: behind =', async () => {
    vi.stubEnv('HOME', '/nowhere/home');
    expect((await run('tokenize', '--tokenizer=~/llama')).stderr).toContain('/nowhere/home/llama');
    expect(await run('tokenize', '--tokenizer=~somebody/llama')).toMatchObject({
      status: 1,
      stderr:
        'tstrain: ~somebody/llama: ~somebody is not expanded; give the whole path, or ./~somebody/llama for a name with a ~\n',
    });
  });

  it('prints a line of each of several faults', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tstrain-main-'));
    const config = join(directory, 'run.yaml');
    writeFileSync(config, 'seed: x\nbf16: x\n');
    const { status, stderr } = await run('--config', config);
    rmSync(directory, { recursive: true });
    expect(status).toBe(1);
    expect(stderr.split('\n').map((line) => line.replace(directory, ''))).toEqual([
      'tstrain: /run.yaml:1: seed: expected a whole number from 0 to 4294967295, got "x"',
      'tstrain: /run.yaml:2: bf16: expected true or false, got "x"',
      'tstrain: /run.yaml: data_path is missing; it is the path of a file',
      'tstrain: /run.yaml: output_dir is missing; it is the path of a directory',
      'tstrain: /run.yaml: give model_name_or_path (a checkpoint to fine-tune) or model_config (a new model); both are missing',
      '',
    ]);
  });

  it('shows where it comes from with --trace, wherever it stands, and with TSTRAIN_TRACE', async () => {
    const line = /\n {4}at .*tokenizer/;
    expect((await run('tokenize', '--tokenizer', '/nowhere', '--trace')).stderr).toMatch(line);
    vi.stubEnv('TSTRAIN_TRACE', '1');
    expect((await run('tokenize', '--tokenizer', '/nowhere')).stderr).toMatch(line);
  });

  it('says how to learn more about an error that nobody foresaw', async () => {
    vi.spyOn(process, 'cwd').mockImplementation(() => {
      throw new Error('unforeseen');
    });
    const { status, stderr } = await run('doctor');
    expect(status).toBe(1);
    expect(stderr).toBe(
      'tstrain: unforeseen\n' +
        'tstrain: this is unexpected; the same command with --trace shows where it comes from\n',
    );
  });
});
