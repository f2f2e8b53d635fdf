import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { generateCommand } from '../bin/commands/generate.js';
import { scoreCommand } from '../bin/commands/score.js';
import { loadModel } from '../engine/checkpoint/load_model.js';
import { addon } from '../engine/device/addon.js';
import { generate, generateMany } from '../engine/generate/generate.js';
import type { LlamaForCausalLM } from '../engine/model/llama.js';
import { loadTokenizer } from '../tokenizer/index.js';
import { expectEqualChoices } from './equal_choices.js';
import { runCommand } from './run_command.js';
import { describeShared, shared } from './shared.js';

// A really trained model: its losses and its greedy continuations, by transformers in float64.
const directory = shared('models/stories260K-hf');
const goldens = shared('goldens/stories260K');
// One thread: two would wait for each other's slices of time where test files run side by side.
const MODEL = ['--model', directory, '--threads', '1'];

interface Losses {
  text: string;
  ids: number[];
  token_loss: number[];
  mean_loss: number;
}

interface Continuation {
  prompt: string;
  prompt_ids: number[];
  ids: number[];
  text: string;
}

// Stated with the reference values; four times transformers' own float32 error. The greedy choices are at least
// 7e-4 apart, so the ids must be equal.
const TOLERANCE = 1e-4;

function rows<T>(name: string): T[] {
  const file = join(goldens, name);
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

describeShared('stories260K', ['models/stories260K-hf', 'goldens/stories260K'], () => {
  const losses = rows<Losses>('losses.jsonl');
  const continuations = rows<Continuation>('greedy.jsonl');
  let model: LlamaForCausalLM;
  let scratch: string;
  beforeAll(async () => {
    addon.setThreads(1);
    ({ model } = await loadModel(directory));
    scratch = mkdtempSync(join(tmpdir(), 'tstrain-stories-'));
  });
  afterAll(() => {
    model.dispose();
    rmSync(scratch, { recursive: true });
  });

  it.each(losses)('loss of each token: $text', ({ ids, token_loss }) => {
    const batch = {
      ids: Int32Array.from(ids),
      targets: Int32Array.from(ids, (_, i) => ids[i + 1] ?? -100),
      documentOffsets: Int32Array.of(0, ids.length),
    };
    const differences = model.losses(batch).map((loss, i) => Math.abs(loss - token_loss[i]));
    expect(differences.length).toBe(token_loss.length);
    expect(Math.max(...differences)).toBeLessThanOrEqual(TOLERANCE);
  });

  it.each(continuations)('greedy continuation of "$prompt"', async ({ prompt_ids, ids }) => {
    expect((await generate(model, prompt_ids, { maxNewTokens: ids.length })).ids).toEqual(ids);
  });

  it('64 openings of any length at once: the ids of one by one', async () => {
    const prompts = Array.from({ length: 64 }, (_, i) => losses[i % losses.length].ids.slice(0, 1 + 2 * i));
    const options = { maxNewTokens: 40 };
    const many = await generateMany(model, prompts, { ...options, textsAtOnce: 64 });
    for (const [i, { ids }] of many.entries())
      expectEqualChoices(model, prompts[i], ids, (await generate(model, prompts[i], options)).ids);
  });

  it.each(continuations)('tstrain generate --prompt "$prompt"', async ({ prompt, prompt_ids, ids, text }) => {
    const given = [...MODEL, '--max-new-tokens', String(ids.length)];
    const json = await runCommand(generateCommand, ...given, '--prompt', prompt, '--json');
    expect(json).toEqual({ stdout: `${JSON.stringify({ ids, text })}\n`, stderr: '' });
    const fromIds = await runCommand(generateCommand, ...given, '--ids', prompt_ids.join(), '--json');
    expect(fromIds).toEqual(json);
    const streamed = await runCommand(generateCommand, ...given, '--prompt', prompt);
    expect(prompt + streamed.stdout).toBe(`${text}\n`);
  });

  it('generates with --bf16: the same opening', async () => {
    // Choices closer than a bfloat16 rounding may fall differently later on.
    const { prompt, text } = continuations[0];
    const given = [...MODEL, '--max-new-tokens', '12', '--bf16', '--prompt', prompt];
    const { stdout } = await runCommand(generateCommand, ...given);
    expect(text).toContain(stdout.trimEnd());
  });

  it('speaks as the tokenizer does', async () => {
    const tokenizer = await loadTokenizer(directory);
    for (const { prompt, prompt_ids } of continuations)
      expect([tokenizer.bosId, ...tokenizer.encode(prompt)]).toEqual(prompt_ids);
  });

  it('tstrain score: the mean loss of each story, and of all tokens', async () => {
    const file = join(scratch, 'rows.jsonl');
    writeFileSync(file, losses.map(({ ids }) => `${JSON.stringify({ ids, prompt_len: 0 })}\n`).join(''));
    const { stdout, stderr, error } = await runCommand(scoreCommand, ...[...MODEL, '--data', file, '--json']);
    expect(error).toBeUndefined();
    expect(stderr).toBe('');
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.length).toBe(losses.length + 1);
    losses.forEach(({ ids, mean_loss }, row) => {
      expect(lines[row]).toEqual({ row, loss: expect.any(Number), label_tokens: ids.length - 1 });
      expect(Math.abs(lines[row].loss - mean_loss)).toBeLessThanOrEqual(TOLERANCE);
    });
    const all = losses.flatMap(({ token_loss }) => token_loss);
    expect(lines.at(-1)).toEqual({ loss: expect.any(Number), label_tokens: all.length, rows: losses.length });
    const mean = all.reduce((sum, loss) => sum + loss, 0) / all.length;
    expect(Math.abs(lines.at(-1).loss - mean)).toBeLessThanOrEqual(TOLERANCE);
  });
});
