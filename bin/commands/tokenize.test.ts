import { once } from 'node:events';
import { PassThrough, Readable, Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { UserError } from '../../errors.js';
import { tinyTokenizer, writeTokenizer } from '../../tests/tiny_tokenizer.js';
import { loadTokenizer } from '../../tokenizer/index.js';
import { tokenizeCommand } from './tokenize.js';

const directory = writeTokenizer(tinyTokenizer());
const tokenizer = await loadTokenizer(directory);

/** Runs the command on what arrives in `chunks`; resolves to its output, and to its error if it fails. */
async function run(chunks: (string | Buffer)[], ...options: string[]) {
  let output = '';
  const stdout = new Writable({
    // So small that every line has to wait for the one before it.
    highWaterMark: 1,
    write(chunk, _, done) {
      output += chunk;
      setImmediate(done);
    },
  });
  const stdin = Readable.from(chunks.map((chunk) => Buffer.from(chunk)));
  const error: unknown = await tokenizeCommand({ stdin, stdout })
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .parseAsync(options, { from: 'user' })
    .then(
      () => undefined,
      (reason) => reason,
    );
  return { output, lines: output.split('\n').slice(0, -1), error };
}

const jsonLines = (...values: unknown[]) => values.map((value) => `${JSON.stringify(value)}\n`).join('');

describe('tstrain tokenize', () => {
  it('writes a list of ids for every string', async () => {
    const texts = ['lower low', '', 'a</s>\n\u2028b\u0085', '你好 🦙'];
    const { lines, error } = await run([jsonLines(...texts)], '--tokenizer', directory);
    expect(error).toBeUndefined();
    expect(lines.map((line) => JSON.parse(line))).toEqual(texts.map((text) => tokenizer.encode(text)));
    expect(JSON.parse(lines[2])).toContain(2);
  });

  it('adds BOS only with --special', async () => {
    const { lines } = await run([jsonLines('low')], '--tokenizer', directory, '--special');
    expect(JSON.parse(lines[0])).toEqual([1, ...tokenizer.encode('low')]);
  });

  it('turns lists of ids into strings with --decode, special tokens only with --special', async () => {
    const input = jsonLines([1, ...tokenizer.encode('low 🦙\n'), 2], []);
    const plain = await run([input], '--tokenizer', directory, '--decode');
    expect(plain.output).toBe(jsonLines('low 🦙\n', ''));
    const special = await run([input], '--tokenizer', directory, '--decode', '--special');
    expect(special.output).toBe(jsonLines('<s> low 🦙\n</s>', ''));
  });

  it('takes input in any pieces, with or without a last line feed, also from Windows', async () => {
    const input = Buffer.from('"low"\r\n"你好 lower"');
    const expected = jsonLines(tokenizer.encode('low'), tokenizer.encode('你好 lower'));
    expect((await run([input], '--tokenizer', directory)).output).toBe(expected);
    const bytes = Array.from(input, (byte) => Buffer.from([byte]));
    expect((await run(bytes, '--tokenizer', directory)).output).toBe(expected);
    expect((await run([], '--tokenizer', directory)).output).toBe('');
  });

  it('answers each line before the next one comes', async () => {
    const [stdin, stdout] = [new PassThrough(), new PassThrough()];
    const done = tokenizeCommand({ stdin, stdout }).parseAsync(['--tokenizer', directory], { from: 'user' });
    for (const text of ['low', 'a']) {
      stdin.write(jsonLines(text));
      const [output] = await once(stdout, 'data');
      expect(String(output)).toBe(jsonLines(tokenizer.encode(text)));
    }
    stdin.end();
    await done;
  });

  it.each([
    ['a line that is not JSON', ['"low"\nlow\n'], [], /^standard input, line 2: not valid JSON: /],
    ['an empty line', ['"low"\n\n"low"\n'], [], /^standard input, line 2: not valid JSON: /],
    [
      'bytes that are not UTF-8',
      ['"low"\n', Buffer.from([0x22, 0xff, 0x22])],
      [],
      /^standard input, line 2: /,
    ],
    ['ids without --decode', ['[1]\n'], [], /line 1: expected a JSON string; for ids use --decode$/],
    ['a string with --decode', ['[1]\n"low"\n'], ['--decode'], /line 2: expected a JSON list of ids/],
    ['fractions', ['[1.5]'], ['--decode'], /line 1: expected a JSON list of ids/],
    [
      'an id outside the vocabulary',
      ['[1]\n[9999]'],
      ['--decode'],
      /line 2: .*: 9999 is not an id of its voc/,
    ],
  ])('stops at %s, naming the line', async (_, input, options, message) => {
    const { error } = await run(input, '--tokenizer', directory, ...options);
    expect(error).toBeInstanceOf(UserError);
    expect((error as Error).message).toMatch(message);
  });

  it('has written the lines before the bad one', async () => {
    const { output } = await run(['"low"\n?\n"a"\n'], '--tokenizer', directory);
    expect(output).toBe(jsonLines(tokenizer.encode('low')));
  });

  it('needs --tokenizer, a directory that has one', async () => {
    expect((await run([])).error).toMatchObject({ code: 'commander.missingMandatoryOptionValue' });
    const missing = await run([], '--tokenizer', '/nowhere');
    expect((missing.error as Error).message).toBe('/nowhere/tokenizer.json: no such file');
  });
});
