import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatPrompt } from '../../data/prompt.js';
import { addon, defaultDevice } from '../../engine/device/addon.js';
import { UserError } from '../../errors.js';
import { runCommand } from '../../tests/run_command.js';
import { writeTinyModel } from '../../tests/tiny_model.js';
import { tinyTokenizer } from '../../tests/tiny_tokenizer.js';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/index.js';
import { generateCommand } from './generate.js';

let directory: string;
let tokenizer: Tokenizer;
beforeAll(async () => {
  directory = await writeTinyModel();
  tokenizer = await loadTokenizer(directory);
});
afterAll(() => rmSync(directory, { recursive: true }));

const run = (...options: string[]) =>
  runCommand(generateCommand, '--model', directory, '--threads', '1', ...options);

async function json(...options: string[]): Promise<{ ids: number[]; text: string | null }> {
  const { stdout, error } = await run('--max-new-tokens', '12', '--json', ...options);
  expect(error).toBeUndefined();
  expect(stdout).toMatch(/^[^\n]+\n$/);
  return JSON.parse(stdout);
}

const decode = (ids: number[]) => tokenizer.decode(ids, { skipSpecial: true });

describe('tstrain generate', () => {
  it('--prompt: BOS first, then the text; prompt and continuation come back', async () => {
    const promptIds = [1, ...tokenizer.encode('lower low')];
    const { ids, text } = await json('--prompt', 'lower low');
    expect(ids.length).toBe(12);
    expect(text).toBe(decode([...promptIds, ...ids]));
    expect(await json('--ids', promptIds.join(', '))).toEqual({ ids, text });
  });

  it("--instruction and --input: Alpaca's prompt", async () => {
    const alone = await json('--instruction', 'Say it.');
    expect(alone).toEqual(await json('--prompt', formatPrompt({ instruction: 'Say it.' })));
    const both = await json('--instruction', 'Say it.', '--input', 'low');
    expect(both).toEqual(await json('--prompt', formatPrompt({ instruction: 'Say it.', input: 'low' })));
    expect(both.text).toContain('### Input:\nlow\n');
  });

  it('prints what is new, in whole characters', async () => {
    const { ids } = await json('--prompt', 'low');
    const stream = tokenizer.stream({ skipSpecial: true });
    for (const id of [1, ...tokenizer.encode('low')]) stream.push(id);
    const expected = ids.map((id) => stream.push(id)).join('') + stream.end();
    const { stdout, stderr } = await run('--max-new-tokens', '12', '--prompt', 'low');
    expect(stdout).toBe(`${expected}\n`);
    expect(stderr).toBe('');
  });

  it('samples by temperature or a cut, as the seed has it; else it is greedy', async () => {
    const greedy = await json('--prompt', 'low');
    expect(await json('--prompt', 'low', '--seed', '5')).toEqual(greedy);
    expect(await json('--prompt', 'low', '--temperature', '0', '--top-p', '0.9')).toEqual(greedy);
    expect(await json('--prompt', 'low', '--top-k', '1')).toEqual(greedy);
    for (const how of [
      ['--temperature', '2'],
      ['--top-p', '0.99'],
      ['--top-k', '50'],
      ['--min-p', '0.001'],
    ]) {
      const sampled = await json('--prompt', 'low', ...how);
      expect(await json('--prompt', 'low', ...how)).toEqual(sampled);
      expect(await json('--prompt', 'low', ...how, '--seed', '1')).not.toEqual(sampled);
    }
    const { ids } = await json('--prompt', 'low', '--repetition-penalty', '1000');
    expect(new Set(ids).size).toBe(12);
  });

  it('stops at any EOS of generation_config.json, config.json and the tokenizer', async () => {
    const { ids } = await json('--ids', '1,2,3');
    const endedBy = (...eos: number[]) => ids.slice(0, Math.min(...eos.map((id) => ids.indexOf(id))) + 1);
    const other = await writeTinyModel({ eos_token_id: [ids[6], 999] });
    const model = ['--model', other];
    expect((await json('--ids', '1,2,3', ...model)).ids).toEqual(endedBy(ids[6]));
    const generation = join(other, 'generation_config.json');
    writeFileSync(generation, JSON.stringify({ eos_token_id: ids[3], temperature: 0.7 }));
    expect((await json('--ids', '1,2,3', ...model)).ids).toEqual(endedBy(ids[3], ids[6]));
    writeFileSync(generation, JSON.stringify({ eos_token_id: [999, ids[9]] }));
    expect((await json('--ids', '1,2,3', ...model)).ids).toEqual(endedBy(ids[6], ids[9]));
    writeFileSync(generation, '{}');
    expect((await json('--ids', '1,2,3', ...model)).ids).toEqual(endedBy(ids[6]));
    const tokens = Object.keys(tinyTokenizer().model.vocab);
    writeFileSync(join(other, 'tokenizer_config.json'), JSON.stringify({ eos_token: tokens[ids[4]] }));
    expect((await json('--ids', '1,2,3', ...model)).ids).toEqual(endedBy(ids[4], ids[6]));
    writeFileSync(generation, '{"eos_token_id": "</s>"}');
    const { error } = await run('--ids', '1', ...model);
    expect(error).toEqual(new UserError(`${generation}: eos_token_id must be a token id or a list of them`));
    rmSync(other, { recursive: true });
  });

  it('goes on at an id without a piece, of an embedding padded beyond the tokenizer', async () => {
    const { vocabSize } = tokenizer;
    // Every embedding beyond the tokenizer's is large: the greedy choice falls there.
    const padded = await writeTinyModel({
      vocab_size: vocabSize + 200,
      eos_token_id: null,
      initializer_range: 3,
    });
    const { stdout, stderr, error } = await run(
      '--prompt',
      'low',
      '--max-new-tokens',
      '12',
      '--json',
      '--model',
      padded,
    );
    expect(error).toBeUndefined();
    const { ids, text } = JSON.parse(stdout);
    const withoutPiece = ids.filter((id: number) => id >= vocabSize);
    expect(withoutPiece.length).toBeGreaterThan(0);
    expect(text).toMatch(/^low/);
    expect(text.split('\uFFFD').length - 1).toBeGreaterThanOrEqual(withoutPiece.length);
    expect(stderr).toBe(
      `warning: id ${withoutPiece[0]} is not in the vocabulary of the tokenizer (ids 0 to ${vocabSize - 1}); such ids ` +
        'are shown as \uFFFD\n',
    );
    const plain = await run('--prompt', 'low', '--max-new-tokens', '12', '--model', padded);
    expect(`low${plain.stdout}`).toBe(`${text}\n`);
    rmSync(padded, { recursive: true });
  });

  it('continues ids without a tokenizer, and says them', async () => {
    const { ids } = await json('--ids', '1,2,3');
    const bare = await writeTinyModel();
    rmSync(join(bare, 'tokenizer.json'));
    expect(await json('--ids', '1,2,3', '--model', bare)).toEqual({ ids, text: null });
    const { stdout } = await run('--ids', '1,2,3', '--model', bare, '--max-new-tokens', '12');
    expect(stdout.trim().split(' ').map(Number)).toEqual(ids);
    writeFileSync(join(bare, 'tokenizer.json'), '{"model": {"type": "WordPiece"}}');
    const broken = await run('--ids', '1,2,3', '--model', bare, '--max-new-tokens', '12');
    expect(broken.stdout).toBe(stdout);
    expect(broken.stderr).toMatch(/^warning: .*tokenizer\.json: .*; ids are printed in place of text\n$/);
    rmSync(join(bare, 'tokenizer.json'));
    const { error } = await run('--prompt', 'low', '--model', bare);
    expect(error?.message).toBe(`${join(bare, 'tokenizer.json')}: no such file`);
    rmSync(bare, { recursive: true });
  });

  it('warns once when the text passes max_position_embeddings', async () => {
    const { stderr } = await run('--prompt', 'low', '--max-new-tokens', '70', '--json');
    expect(stderr).toBe('warning: the text is longer than max_position_embeddings (64)\n');
    const long = await run('--ids', Array(65).fill(1).join(), '--max-new-tokens', '2', '--json');
    expect(long.stderr).toBe(stderr);
  });

  it('frees the model', async () => {
    const { heapBytes, arenaInUse } = addon.stats(defaultDevice());
    await json('--prompt', 'low', '--bf16');
    expect(addon.stats(defaultDevice())).toMatchObject({ heapBytes, arenaInUse });
  });

  it.each([
    [[], 'one of --instruction, --prompt and --ids is needed'],
    [['--prompt', 'a', '--ids', '1'], "option '--prompt <text>' cannot be used with option '--ids <list>'"],
    [['--instruction', 'a', '--prompt', 'b'], "option '--instruction <text>' cannot be used with"],
    [
      ['--prompt', 'a', '--input', 'b'],
      "option '--input <text>' cannot be used with option '--prompt <text>'",
    ],
    [['--input', 'b'], "option '--input <text>' goes with --instruction"],
    [['--ids', '1,x'], "option '--ids <list>' argument '1,x' is invalid. expected ids such as 1,15043"],
    [['--ids', '1', '--top-p', '1.5'], 'expected a number from 0 to 1'],
    [['--ids', '1', '--temperature', '-1'], 'expected a number, 0 or more'],
    [['--ids', '1', '--temperature', ''], 'expected a number, 0 or more'],
    [['--ids', '1', '--max-new-tokens', '0'], 'expected a whole number, 1 or more'],
    [['--ids', '1', '--threads', '0'], 'expected a whole number from 1 to 1024'],
  ])('refuses %j', async (options, message) => {
    const { stderr, error } = await run(...options);
    expect(error).toMatchObject({ name: 'CommanderError' });
    expect(stderr).toContain(message);
  });

  it('tells what is taken otherwise than config.json says it', async () => {
    const path = join(directory, 'config.json');
    const text = readFileSync(path, 'utf8');
    const plain = await run('--ids', '1', '--max-new-tokens', '4');
    writeFileSync(path, JSON.stringify({ ...JSON.parse(text), pretraining_tp: 2 }));
    const { stdout, stderr } = await run('--ids', '1', '--max-new-tokens', '4');
    writeFileSync(path, text);
    expect(stderr).toBe(`${path}: pretraining_tp is 2; computed as with 1, which gives the same logits\n`);
    expect(stdout).toBe(plain.stdout);
  });
});
