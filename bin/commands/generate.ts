import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { Command, InvalidArgumentError, Option } from 'commander';
import { checkPrompt, generate } from '../../engine/generate/generate.js';
import type { Sampling } from '../../engine/generate/sampling.js';
import { UserError } from '../../errors.js';
import { encodePrompt, eosTokenIds, hasPiece, textOf, textStream } from '../../recipes/generate.js';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/index.js';
import {
  addModelOptions,
  checkModelDirectory,
  type ModelOptions,
  numberOption,
  openModel,
} from '../model_options.js';
import { shownOn } from '../terminal.js';

interface Options extends ModelOptions {
  instruction?: string;
  input?: string;
  prompt?: string;
  ids?: number[];
  maxNewTokens: number;
  temperature?: number;
  topP?: number;
  topK?: number;
  minP?: number;
  repetitionPenalty?: number;
  seed: number;
  json?: boolean;
}

/** `tstrain generate`: goes on with a text, and shows what comes as it comes. */
export function generateCommand({
  stdout,
  stderr,
}: {
  stdout: Writable;
  stderr: Writable;
} = process): Command {
  const fraction = numberOption('a number from 0 to 1', (x) => x >= 0 && x <= 1);
  const notNegative = numberOption('a whole number, 0 or more', (x) => Number.isSafeInteger(x) && x >= 0);
  return addModelOptions(new Command('generate'))
    .description(
      'go on with a text, greedily unless told to sample; stops at any EOS that config.json, generation_config.json or the tokenizer names. Prints what is new, as it comes',
    )
    .addOption(new Option('--instruction <text>', "put into Alpaca's prompt").conflicts(['prompt', 'ids']))
    .addOption(new Option('--input <text>', 'the input of the instruction').conflicts(['prompt', 'ids']))
    .addOption(new Option('--prompt <text>', 'a text to go on with as it is').conflicts(['ids']))
    .option(
      '--ids <list>',
      'token ids to go on with as they are, such as 1,15043; needs no tokenizer',
      parseIds,
    )
    .option(
      '--max-new-tokens <n>',
      'most tokens to add',
      numberOption('a whole number, 1 or more', (x) => Number.isInteger(x) && x >= 1),
      256,
    )
    .option(
      '--temperature <t>',
      'sample, from logits divided by it (default: greedy; 1 with --top-p, --top-k or --min-p)',
      numberOption('a number, 0 or more', (x) => x >= 0 && x < Number.POSITIVE_INFINITY),
    )
    .option(
      '--top-p <p>',
      'sample from the most probable tokens that hold so much of the probability',
      fraction,
    )
    .option('--top-k <k>', 'sample from the k most probable tokens', notNegative)
    .option('--min-p <p>', 'sample from tokens at least so probable, relative to the most probable', fraction)
    .option(
      '--repetition-penalty <r>',
      'above 1: tokens that are there already become less probable',
      numberOption('a number from 0.001 to 1000', (x) => x >= 0.001 && x <= 1000),
    )
    .option('--seed <s>', 'another seed, another sample', notNegative, 0)
    .option('--json', 'only one last line: {"ids": [new ids], "text": "prompt and continuation"}')
    .action(async (options: Options, command: Command) => {
      if (options.input !== undefined && options.instruction === undefined)
        command.error("error: option '--input <text>' goes with --instruction");
      if ((options.instruction ?? options.prompt ?? options.ids) === undefined)
        command.error('error: one of --instruction, --prompt and --ids is needed');
      await run(options, stdout, stderr);
    });
}

async function run(options: Options, stdout: Writable, stderr: Writable): Promise<void> {
  checkModelDirectory(options);
  const tokenizer = await tokenizerOf(options, stderr);
  const promptIds = options.ids ?? encodePrompt(tokenizer!, promptOf(options));
  const model = await openModel(options, stderr);
  const { config } = model.parameters;
  const stream = tokenizer && textStream(tokenizer);
  let length = promptIds.length;
  let warned = false;
  const checkLength = () => {
    if (warned || length <= config.maxPositionEmbeddings) return;
    warned = true;
    stderr.write(
      `warning: the text is longer than max_position_embeddings (${config.maxPositionEmbeddings})\n`,
    );
  };
  checkLength();
  let withoutPiece = false;
  const checkPiece = (id: number) => {
    if (withoutPiece || tokenizer === undefined || hasPiece(tokenizer, id)) return;
    withoutPiece = true;
    stderr.write(
      `warning: id ${id} is not in the vocabulary of the tokenizer (ids 0 to ${tokenizer.vocabSize - 1}); such ids are ` +
        'shown as \uFFFD\n',
    );
  };
  try {
    const show = options.json ? () => {} : (text: string) => void stdout.write(shownOn(stdout, text));
    checkPrompt(promptIds, config.vocabSize);
    for (const id of promptIds) {
      checkPiece(id);
      stream?.push(id);
    }
    const { ids } = await generate(model, promptIds, {
      maxNewTokens: options.maxNewTokens,
      eosTokenIds: eosTokenIds(options.model, config, tokenizer),
      sampling: samplingOf(options),
      onToken: (id) => {
        length++;
        checkLength();
        checkPiece(id);
        show(stream?.push(id) ?? `${id} `);
      },
    });
    show(`${stream?.end() ?? ''}\n`);
    if (options.json) {
      const text = tokenizer ? textOf(tokenizer, [...promptIds, ...ids]) : null;
      stdout.write(shownOn(stdout, `${JSON.stringify({ ids, text })}\n`));
    }
  } finally {
    model.dispose();
  }
}

/** The model's tokenizer. Ids can be continued without one; then there is no text to show. */
async function tokenizerOf({ ids, model }: Options, stderr: Writable): Promise<Tokenizer | undefined> {
  if (ids === undefined) return loadTokenizer(model);
  if (!existsSync(join(model, 'tokenizer.json'))) return undefined;
  try {
    return await loadTokenizer(model);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    stderr.write(`warning: ${error.message}; ids are printed in place of text\n`);
    return undefined;
  }
}

/** The text to go on with, or the instruction. */
function promptOf({ instruction, input, prompt }: Options) {
  return prompt ?? { instruction: instruction!, input };
}

function samplingOf({ temperature, topP, topK, minP, repetitionPenalty, seed }: Options): Sampling {
  const cut = topP ?? topK ?? minP;
  return {
    temperature: temperature ?? (cut === undefined ? undefined : 1),
    topP,
    topK,
    minP,
    repetitionPenalty,
    seed,
  };
}

function parseIds(text: string): number[] {
  const ids = text.split(',').map((part) => (/^\s*\d+\s*$/.test(part) ? Number(part) : -1));
  if (ids.some((id) => id < 0)) throw new InvalidArgumentError('expected ids such as 1,15043');
  return ids;
}
