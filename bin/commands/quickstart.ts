import { join } from 'node:path';
import { Command } from 'commander';
import { formatPrompt } from '../../data/prompt.js';
import { holdsModel, listCheckpoints } from '../../engine/checkpoint/directory.js';
import { loadModel } from '../../engine/checkpoint/load_model.js';
import { addon, defaultDevice } from '../../engine/device/addon.js';
import { generate } from '../../engine/generate/generate.js';
import { defaultThreads } from '../../engine/machine/threads.js';
import { parseLlamaConfig } from '../../engine/model/config.js';
import { LlamaForCausalLM } from '../../engine/model/llama.js';
import { Parameters } from '../../engine/model/parameters.js';
import { type HeldOutRow, quickstartRows, writeQuickstartData } from '../../quickstart/index.js';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/index.js';
import { loadConfig } from '../config.js';
import { trainCommand } from './train.js';

const CONFIG = 'configs/quickstart.yaml';
const DATA = 'out/quickstart-data';
/** Held-out instructions shown with the model's answers, one of each of the first skills. */
const SHOWN = 4;

/** `npm start`: makes the quickstart's data, trains on it, and asks the model what it was never shown. */
export function quickstartCommand(): Command {
  return new Command('quickstart')
    .description(`train ${CONFIG} on instructions that the project makes itself, and test it on unseen ones`)
    .action(async () => {
      process.exitCode = await quickstart(process.stdout);
    });
}

async function quickstart(screen: { write(text: string): unknown }): Promise<number> {
  const print = (line: string) => screen.write(`${line}\n`);
  writeQuickstartData(DATA);
  const config = loadConfig(CONFIG);
  const tokenizer = await loadTokenizer(join(DATA, 'tokenizer'));
  const { heldOut } = quickstartRows();
  addon.setThreads(config.threads ?? defaultThreads());

  const untrained = new Parameters(parseLlamaConfig(config.model_config, CONFIG), defaultDevice(), 'fp32');
  untrained.initialize(config.seed);
  const before = await askAll(new LlamaForCausalLM(untrained), tokenizer, heldOut);
  print(`before training: ${percent(before)} of ${heldOut.length} held-out instructions answered exactly\n`);

  // A quickstart that was interrupted has saved, and goes on where it stopped; one that was finished starts anew.
  const resume = !holdsModel(config.output_dir) && listCheckpoints(config.output_dir).length > 0;
  const status = await trainCommand({
    config: CONFIG,
    resume,
    replace: true,
    set: [],
    again: 'npm start',
  });
  if (status !== 0) return status;

  const { model } = await loadModel(config.output_dir);
  const answers = await askAll(model, tokenizer, heldOut);
  print('\nheld-out instructions answered exactly:');
  const skills = [...new Set(heldOut.map((row) => row.skill))];
  for (const skill of skills) {
    const own = answers.filter((answer) => answer.row.skill === skill);
    print(`  ${skill.padEnd(14)} ${percent(own).padStart(6)} of ${own.length}`);
  }
  print(`  ${'all'.padEnd(14)} ${percent(answers).padStart(6)} of ${answers.length}\n`);
  for (const skill of skills.slice(0, SHOWN)) {
    const { row, text } = answers.find((answer) => answer.row.skill === skill)!;
    print(`> ${row.instruction}${row.input ? ` [${row.input}]` : ''}`);
    print(`  ${text}`);
  }
  print(`\nnext: npx tstrain generate --model ${config.output_dir} --instruction "Reverse the word flute."`);
  return 0;
}

interface Answer {
  row: HeldOutRow;
  text: string;
}

/** The model's greedy answer to each row; disposes the model. */
async function askAll(
  model: LlamaForCausalLM,
  tokenizer: Tokenizer,
  rows: readonly HeldOutRow[],
): Promise<Answer[]> {
  const longest = Math.max(...rows.map((row) => tokenizer.encode(row.output).length));
  const answers: Answer[] = [];
  for (const row of rows) {
    const prompt = [tokenizer.bosId!, ...tokenizer.encode(formatPrompt(row))];
    // Room for the end of a text and one token more: one that does not end is not an exact answer.
    const { ids } = await generate(model, prompt, {
      maxNewTokens: longest + 2,
      eosTokenIds: [tokenizer.eosId!],
    });
    answers.push({ row, text: tokenizer.decode(ids, { skipSpecial: true }) });
  }
  model.dispose();
  return answers;
}

function percent(answers: readonly Answer[]): string {
  const right = answers.filter(({ row, text }) => text.trim() === row.output).length;
  return `${((100 * right) / answers.length).toFixed(1)} %`;
}
