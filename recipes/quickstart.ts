import { generate } from '../engine/generate/generate.js';
import { parseLlamaConfig } from '../engine/model/config.js';
import { LlamaForCausalLM } from '../engine/model/llama.js';
import { Parameters } from '../engine/model/parameters.js';
import { type HeldOutRow, quickstartRows } from '../quickstart/index.js';
import type { Tokenizer } from '../tokenizer/index.js';
import { encodePrompt } from './generate.js';
import { deviceOf } from './prepare.js';
import type { RunConfig } from './settings.js';

/** What a model says to a held-out instruction. */
export interface Answer {
  row: HeldOutRow;
  text: string;
  /** Whether that is the output of the row, letter for letter. */
  exact: boolean;
}

/** The model that a run from scratch starts from, in float32. To be disposed by the caller. */
export function untrainedModel(config: RunConfig): LlamaForCausalLM {
  const model = parseLlamaConfig(config.model_config, 'model_config');
  const parameters = new Parameters(model, deviceOf(config), 'fp32');
  parameters.initialize(config.seed);
  return new LlamaForCausalLM(parameters);
}

/** The model's greedy answer to each of the quickstart's held-out instructions. */
export async function answerHeldOut(model: LlamaForCausalLM, tokenizer: Tokenizer): Promise<Answer[]> {
  const { heldOut } = quickstartRows();
  const longest = Math.max(...heldOut.map((row) => tokenizer.encode(row.output).length));
  const answers: Answer[] = [];
  for (const row of heldOut) {
    // Room for the end of a text and one token more: one that does not end is not an exact answer.
    const { ids } = await generate(model, encodePrompt(tokenizer, row), {
      maxNewTokens: longest + 2,
      eosTokenIds: [tokenizer.eosId!],
    });
    const text = tokenizer.decode(ids, { skipSpecial: true });
    answers.push({ row, text, exact: text.trim() === row.output });
  }
  return answers;
}
