import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { Command } from 'commander';
import { z } from 'zod';
import { UserError } from '../../errors.js';
import { expandHome } from '../../recipes/home.js';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/index.js';
import { shownOn } from '../terminal.js';

interface Options {
  tokenizer: string;
  decode?: boolean;
  special?: boolean;
}

/** `tstrain tokenize`: texts to ids or ids to texts, a line at a time. */
export function tokenizeCommand({ stdin, stdout }: { stdin: Readable; stdout: Writable } = process): Command {
  return new Command('tokenize')
    .description(
      'turn texts into token ids, or ids into texts: one JSON string (or id list) a line on standard input, ' +
        'one JSON id list (or string) a line on standard output',
    )
    .requiredOption('--tokenizer <dir>', 'directory with tokenizer.json', expandHome)
    .option('--decode', 'from ids to text')
    .option('--special', 'add the BOS and EOS that the tokenizer asks for; with --decode show special tokens')
    .action(async (options: Options) => {
      const tokenizer = await loadTokenizer(options.tokenizer);
      const convert = options.decode ? decodeLine : encodeLine;
      let number = 0;
      for await (const line of lines(stdin)) {
        number++;
        const output = `${JSON.stringify(convert(tokenizer, parseLine(line, number), number, options))}\n`;
        if (!stdout.write(shownOn(stdout, output))) await once(stdout, 'drain');
      }
    });
}

function encodeLine(tokenizer: Tokenizer, value: unknown, number: number, { special }: Options): number[] {
  if (typeof value !== 'string')
    throw new UserError(`standard input, line ${number}: expected a JSON string; for ids use --decode`);
  return tokenizer.encode(value, { special });
}

function decodeLine(tokenizer: Tokenizer, value: unknown, number: number, { special }: Options): string {
  const ids = z.array(z.int()).safeParse(value);
  if (!ids.success)
    throw new UserError(`standard input, line ${number}: expected a JSON list of ids, such as [1, 15043]`);
  try {
    return tokenizer.decode(ids.data, { skipSpecial: !special });
  } catch (error) {
    if (error instanceof UserError)
      throw new UserError(`standard input, line ${number}: ${error.message}`, { cause: error });
    throw error;
  }
}

function parseLine(line: Buffer, number: number): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(line));
  } catch (error) {
    throw new UserError(`standard input, line ${number}: not valid JSON: ${(error as Error).message}`);
  }
}

/** Lines end with a line feed alone: a JSON string may hold the other characters that node:readline ends lines at. */
async function* lines(input: Readable): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  for await (const data of input) {
    let chunk = Buffer.from(data);
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10)) {
      yield Buffer.concat([...parts, chunk.subarray(0, end)]);
      parts = [];
      chunk = chunk.subarray(end + 1);
    }
    if (chunk.length > 0) parts.push(chunk);
  }
  if (parts.length > 0) yield Buffer.concat(parts);
}
