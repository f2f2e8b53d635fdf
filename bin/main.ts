import { Command, CommanderError } from 'commander';
import { fileError, plainLine, UserError, visible } from '../errors.js';
import { expandHome } from '../recipes/home.js';
import { nearest } from '../recipes/nearest.js';
import { version } from '../recipes/version.js';
import { setOption } from './set_option.js';

interface TrainOptions {
  config?: string;
  resume?: boolean;
  set: string[];
}

/** Each subcommand is imported only when it is named, so that `doctor` and `--help` start at once. */
const commands: Record<string, { summary: string; load: () => Promise<Command> }> = {
  plan: {
    summary: 'memory by part, FLOPs, tokens and steps of a run, before it starts',
    load: async () => (await import('./commands/plan.js')).planCommand(),
  },
  score: {
    summary: 'the loss of given rows',
    load: async () => (await import('./commands/score.js')).scoreCommand(),
  },
  generate: {
    summary: 'text from a model',
    load: async () => (await import('./commands/generate.js')).generateCommand(),
  },
  tokenize: {
    summary: 'texts to token ids, or ids to texts, a line at a time',
    load: async () => (await import('./commands/tokenize.js')).tokenizeCommand(),
  },
  quickstart: {
    summary:
      'what `npm start` runs: a small model on instructions made by the project, tested on unseen ones',
    load: async () => (await import('./commands/quickstart.js')).quickstartCommand(),
  },
  doctor: {
    summary: 'what this machine has, what will be used, what is missing',
    load: async () => (await import('./commands/doctor.js')).doctorCommand(),
  },
};

async function program(argv: readonly string[]): Promise<Command> {
  const top = new Command('tstrain')
    .description('Fine-tune LLaMA models inside one Node.js process.')
    .usage('--config FILE [--resume] [--set key=value ...]\n       tstrain COMMAND [options]')
    .version(version)
    .option('--config <file>', "train: the run's YAML file", expandHome)
    .option('--resume', 'go on from the newest whole checkpoint of output_dir')
    .addOption(setOption())
    // Taken out by main(), which takes it wherever it stands.
    .option('--trace', 'show where an error comes from (or TSTRAIN_TRACE=1)')
    // plan has a --config and a --set of its own: what stands behind a command's name belongs to it.
    .enablePositionalOptions()
    .helpCommand(false)
    .exitOverride()
    .configureOutput({
      outputError: (text, write) => write(`${plainLine(text.trim().replace(/^error: /, 'tstrain: '))}\n`),
    })
    .action(train);
  for (const [name, { summary, load }] of Object.entries(commands)) {
    const command = argv.includes(name) ? await load() : new Command(name);
    top.addCommand(command.summary(summary).copyInheritedSettings(top));
  }
  // Only now, so that commands do not inherit it: an excess word here is an unknown command, which train() names.
  return top.allowExcessArguments();
}

async function train(options: TrainOptions, command: Command): Promise<void> {
  const [word] = command.args;
  if (word === 'train') command.error('error: training has no command of its own: tstrain --config FILE');
  if (word !== undefined) {
    const names = Object.keys(commands);
    const near = nearest(word, names);
    command.error(
      `error: unknown command '${word}'; ${near === undefined ? `there are ${names.join(', ')}` : `did you mean ${near}?`}`,
    );
  }
  if (options.config === undefined) command.help({ error: true });
  const { trainCommand } = await import('./commands/train.js');
  process.exitCode = await trainCommand({
    config: options.config!,
    resume: options.resume ?? false,
    set: options.set,
  });
}

/**
 * Runs one command line and prints what went wrong with it, without a stack trace unless asked for one.
 *
 * @param argv the words behind `tstrain`
 * @returns the exit status: 0 done, 1 a fault in what was asked for or a failure, 2 a command line that cannot
 *   be read
 */
export async function main(argv: readonly string[]): Promise<number> {
  const trace = argv.includes('--trace') || Boolean(process.env.TSTRAIN_TRACE);
  const words = argv.filter((word) => word !== '--trace');
  try {
    const parser = await program(words);
    await parser.parseAsync(words, { from: 'user' });
    return 0;
  } catch (error) {
    // Commander has printed its message, or the help that was asked for.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    const { path } = error as NodeJS.ErrnoException;
    const told = path === undefined ? error : fileError(error, path);
    // A line of each fault, whatever a library or a file wrote into its message.
    const faults = told instanceof UserError ? told.faults : [plainLine((told as Error).message)];
    if (trace) console.error(`tstrain: ${visible((error as Error).stack ?? faults.join('\n'))}`);
    else for (const fault of faults) console.error(`tstrain: ${fault}`);
    if (!trace && !(told instanceof UserError))
      console.error('tstrain: this is unexpected; the same command with --trace shows where it comes from');
    return 1;
  }
}
