import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeAlpacaRow } from '../../data/encode.js';
import { loadModel } from '../../engine/checkpoint/load_model.js';
import { addon, defaultDevice } from '../../engine/device/addon.js';
import { runCommand } from '../../tests/run_command.js';
import { writeTinyModel } from '../../tests/tiny_model.js';
import { loadTokenizer } from '../../tokenizer/index.js';
import { scoreCommand } from './score.js';

let directory: string;
let scratch: string;
beforeAll(async () => {
  directory = await writeTinyModel();
  scratch = mkdtempSync(join(tmpdir(), 'tstrain-score-'));
});
afterAll(() => {
  rmSync(directory, { recursive: true });
  rmSync(scratch, { recursive: true });
});

function write(...rows: unknown[]): string {
  const file = join(scratch, 'rows.jsonl');
  writeFileSync(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return file;
}

const run = (...options: string[]) =>
  runCommand(scoreCommand, '--model', directory, '--threads', '1', ...options);

const parse = (stdout: string) =>
  stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

/** The mean loss of one row that goes through the model alone; labels are not shifted yet. */
async function alone(ids: ArrayLike<number>, labels: ArrayLike<number>): Promise<number> {
  const { model } = await loadModel(directory);
  const losses = model.losses({
    ids: Int32Array.from(ids),
    targets: Int32Array.from(ids, (_, i) => labels[i + 1] ?? -100),
    documentOffsets: Int32Array.of(0, ids.length),
  });
  model.dispose();
  return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
}

const sequence = (length: number, start = 0) => Array.from({ length }, (_, i) => 3 + ((start + i * 7) % 250));

// Rows that go through the model together share GEMMs: their rows may be summed in another order.
const DIGITS = 5;

describe('tstrain score', () => {
  it('gives each row the mean over its labels after the shift, and the token mean of all', async () => {
    const [a, b, c] = [sequence(9), sequence(30, 5), sequence(12, 9)];
    const labels = b.map((id, i) => (i % 3 === 0 ? id : -100));
    const file = write({ ids: a, prompt_len: 4 }, { ids: b, labels }, { ids: c, prompt_len: 0 });
    const { stdout, stderr, error } = await run('--data', file, '--json');
    expect(error).toBeUndefined();
    expect(stderr).toBe('');
    const means = [
      await alone(
        a,
        a.map((id, i) => (i < 4 ? -100 : id)),
      ),
      await alone(b, labels),
      await alone(c, c),
    ];
    // The first label of b and c has no predictor.
    const counts = [5, 9, 11];
    expect(parse(stdout)).toEqual([
      ...means.map((mean, row) => ({
        row,
        loss: expect.closeTo(mean, DIGITS),
        label_tokens: counts[row],
      })),
      {
        loss: expect.closeTo((means[0] * 5 + means[1] * 9 + means[2] * 11) / 25, DIGITS),
        label_tokens: 25,
        rows: 3,
      },
    ]);
  });

  it('says 0 tokens of rows without labels, wherever they stand', async () => {
    const bare = { ids: [4, 5, 6], prompt_len: 3 };
    const firstOnly = { ids: [4, 5, 6], labels: [4, -100, -100] };
    const ids = sequence(10);
    const { stdout } = await run(
      '--data',
      write(bare, { ids, prompt_len: 0 }, firstOnly, { ids: [7], prompt_len: 0 }),
      '--json',
    );
    const none = { loss: null, label_tokens: 0 };
    const loss = expect.closeTo(await alone(ids, ids), DIGITS);
    expect(parse(stdout)).toEqual([
      { row: 0, ...none },
      { row: 1, loss, label_tokens: 9 },
      { row: 2, ...none },
      { row: 3, ...none },
      { loss, label_tokens: 9, rows: 4 },
    ]);
    const nothing = await run('--data', write(bare), '--json');
    expect(parse(nothing.stdout)).toEqual([
      { row: 0, ...none },
      { ...none, rows: 1 },
    ]);
  });

  it('takes Alpaca rows as training does', async () => {
    const row = { instruction: 'lower', input: 'low', output: 'a' };
    const { ids, labels } = encodeAlpacaRow(row, await loadTokenizer(directory), Number.POSITIVE_INFINITY);
    const { stdout } = await run('--data', write(row), '--json');
    expect(parse(stdout)[0].loss).toBeCloseTo(await alone(ids, labels), DIGITS);
  });

  it('never truncates: it warns beyond max_position_embeddings, and a row may fill more than a batch', async () => {
    const rows = [sequence(80), sequence(4500, 3), sequence(64), sequence(70)];
    const file = write(...rows.map((ids) => ({ ids, prompt_len: 0 })));
    const { stdout, stderr } = await run('--data', file, '--json');
    expect(stderr).toBe(
      `warning: ${file}: rows longer than max_position_embeddings (64): 3, the longest row 1 with 4500 tokens; ` +
        'they were scored whole\n',
    );
    const lines = parse(stdout);
    expect(lines.map(({ label_tokens }) => label_tokens)).toEqual([79, 4499, 63, 69, 4710]);
    for (const [row, ids] of rows.entries())
      expect(lines[row].loss).toBeCloseTo(await alone(ids, ids), DIGITS - 1);
  });

  it('with --bf16 the losses are near', async () => {
    const ids = sequence(60);
    const { stdout } = await run('--data', write({ ids, prompt_len: 0 }), '--json', '--bf16');
    const [{ loss }] = parse(stdout);
    const exact = await alone(ids, ids);
    expect(loss).not.toBe(exact);
    // 8 bits of logits up to about 10, averaged over 59 tokens.
    expect(Math.abs(loss - exact)).toBeLessThan(0.05);
  });

  it('prints a table for people', async () => {
    const { stdout } = await run(
      '--data',
      write({ ids: sequence(9), prompt_len: 0 }, { ids: [3], prompt_len: 1 }),
    );
    expect(stdout).toMatch(
      /^ +row +label tokens +loss\n +0 +8 +\d+\.\d{4}\n +1 +0 +-\ntoken mean \d+\.\d{4} \(perplexity .*\) over 8 tokens of 2 rows\n$/,
    );
  });

  it('frees the model, also when a row is refused', async () => {
    const { heapBytes, arenaInUse } = addon.stats(defaultDevice());
    await run('--data', write({ ids: sequence(9), prompt_len: 0 }));
    const file = write({ ids: [1, 2], prompt_len: 0 }, { ids: [1, 5000], prompt_len: 0 });
    const { error } = await run('--data', file);
    expect(error?.message).toMatch(
      /rows\.jsonl, row 1: id 5000 is outside the model's vocabulary of \d+ \(ids 0 to \d+\)\. /,
    );
    expect(addon.stats(defaultDevice())).toMatchObject({ heapBytes, arenaInUse });
  });

  it('needs --model and --data, files that are there', async () => {
    expect((await run()).error).toMatchObject({ code: 'commander.missingMandatoryOptionValue' });
    const { error } = await run('--data', join(scratch, 'nothing.jsonl'));
    expect(error?.message).toContain('nothing.jsonl');
    const file = write({ ids: [1, 2], prompt_len: 0 });
    const missing = await runCommand(scoreCommand, '--model', scratch, '--data', file);
    expect(missing.error?.message).toContain(join(scratch, 'config.json'));
  });
});
