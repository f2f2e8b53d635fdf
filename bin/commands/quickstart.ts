import { join } from 'node:path';
import { Command } from 'commander';
import { holdsModel, listCheckpoints } from '../../engine/checkpoint/directory.js';
import { loadModel } from '../../engine/checkpoint/load_model.js';
import { addon, projectRoot } from '../../engine/device/addon.js';
import { defaultThreads } from '../../engine/machine/threads.js';
import type { LlamaForCausalLM } from '../../engine/model/llama.js';
import { writeQuickstartData } from '../../quickstart/index.js';
import { deviceOf } from '../../recipes/prepare.js';
import { type Answer, answerHeldOut, untrainedModel } from '../../recipes/quickstart.js';
import { loadTokenizer } from '../../tokenizer/index.js';
import { loadConfig } from '../config.js';
import { trainCommand } from './train.js';

/** The package's own, wherever that is installed. */
const CONFIG = join(projectRoot(), 'configs/quickstart.yaml');
const DATA = 'out/quickstart-data';
/** What a person types to start this program. */
const COMMAND = process.env.TSTRAIN_COMMAND ?? 'npx tstrain';
/** Held-out instructions shown with the model's answers, one of each of the first skills. */
const SHOWN = 4;

/** `npm start`: makes the quickstart's data, trains on it, and asks the model what it was never shown. */
export function quickstartCommand(): Command {
  return new Command('quickstart')
    .description(
      'train configs/quickstart.yaml on instructions that the project makes itself, and test it on unseen ones',
    )
    .action(async () => {
      process.exitCode = await quickstart(process.stdout);
    });
}

async function quickstart(screen: { write(text: string): unknown }): Promise<number> {
  const print = (line: string) => screen.write(`${line}\n`);
  writeQuickstartData(DATA);
  const config = loadConfig(CONFIG);
  const tokenizer = await loadTokenizer(join(DATA, 'tokenizer'));
  addon.setThreads(config.threads ?? defaultThreads());
  const test = async (model: LlamaForCausalLM) => {
    const answers = await answerHeldOut(model, tokenizer);
    model.dispose();
    return answers;
  };

  const before = await test(untrainedModel(config));
  print(`before training: ${percent(before)} of ${before.length} held-out instructions answered exactly\n`);

  // A quickstart that was interrupted has saved, and goes on where it stopped; one that was finished starts anew.
  const resume = !holdsModel(config.output_dir) && listCheckpoints(config.output_dir).length > 0;
  const status = await trainCommand({
    config: CONFIG,
    resume,
    replace: true,
    set: [],
    again: `${COMMAND} quickstart`,
  });
  if (status !== 0) return status;

  const { model } = await loadModel(config.output_dir, { device: deviceOf(config) });
  const answers = await test(model);
  print('\nheld-out instructions answered exactly:');
  const skills = [...new Set(answers.map(({ row }) => row.skill))];
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
  print(`\nnext: ${COMMAND} generate --model ${config.output_dir} --instruction "Reverse the word flute."`);
  return 0;
}

function percent(answers: readonly Answer[]): string {
  const right = answers.filter(({ exact }) => exact).length;
  return `${((100 * right) / answers.length).toFixed(1)} %`;
}
