import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { Command } from 'commander';
import { detectForm } from '../../data/sources.js';
import { expandHome } from '../../recipes/home.js';
import { type RowScore, scoreRows } from '../../recipes/score.js';
import { loadTokenizer } from '../../tokenizer/index.js';
import { addModelOptions, checkModelDirectory, type ModelOptions, openModel } from '../model_options.js';

interface Options extends ModelOptions {
  data: string;
  json?: boolean;
}

/** `tstrain score`: the loss of given rows, each by itself and all together. */
export function scoreCommand({ stdout, stderr }: { stdout: Writable; stderr: Writable } = process): Command {
  return addModelOptions(new Command('score'))
    .description(
      "the loss of each row of a data file, the mean over its labelled tokens, and all labelled tokens' mean",
    )
    .requiredOption(
      '--data <file>',
      'rows as for training: JSON array or JSONL; nothing is truncated',
      expandHome,
    )
    .option(
      '--json',
      'a line a row {"row", "loss", "label_tokens"}, and a last one {"loss", "label_tokens", "rows"}',
    )
    .action((options: Options) => run(options, stdout, stderr));
}

async function run(options: Options, stdout: Writable, stderr: Writable): Promise<void> {
  checkModelDirectory(options);
  const form = await detectForm(options.data);
  const tokenizer = form === 'alpaca' ? await loadTokenizer(options.model) : undefined;
  const model = await openModel(options, stderr);
  const print = async (line: string) => {
    if (!stdout.write(`${line}\n`)) await once(stdout, 'drain');
  };
  try {
    const { maxPositionEmbeddings } = model.parameters.config;
    const long: RowScore[] = [];
    let sum = 0;
    let labels = 0;
    let rows = 0;
    if (!options.json)
      await print(`${'row'.padStart(8)}${'label tokens'.padStart(14)}${'loss'.padStart(10)}`);
    const warn = (text: string) => void stderr.write(`${text}\n`);
    for await (const score of scoreRows(model, options.data, tokenizer, warn)) {
      if (score.tokens > maxPositionEmbeddings) long.push(score);
      sum += (score.loss ?? 0) * score.labelTokens;
      labels += score.labelTokens;
      rows++;
      await print(options.json ? jsonLine(score) : tableLine(score));
    }
    if (long.length > 0) stderr.write(longRowsWarning(options.data, maxPositionEmbeddings, long));
    const loss = labels === 0 ? null : sum / labels;
    await print(
      options.json ? JSON.stringify({ loss, label_tokens: labels, rows }) : summary(loss, labels, rows),
    );
  } finally {
    model.dispose();
  }
}

/** About rows with positions that the model was not made for. */
function longRowsWarning(path: string, most: number, long: readonly RowScore[]): string {
  const longest = long.reduce((a, b) => (b.tokens > a.tokens ? b : a));
  return (
    `warning: ${path}: rows longer than max_position_embeddings (${most}): ${long.length}, the longest ` +
    `row ${longest.row} with ${longest.tokens} tokens; they were scored whole\n`
  );
}

function jsonLine({ row, loss, labelTokens }: RowScore): string {
  return JSON.stringify({ row, loss, label_tokens: labelTokens });
}

function tableLine({ row, loss, labelTokens }: RowScore): string {
  return `${String(row).padStart(8)}${String(labelTokens).padStart(14)}${(loss?.toFixed(4) ?? '-').padStart(10)}`;
}

function summary(loss: number | null, labels: number, rows: number): string {
  if (loss === null) return `none of the ${rows} rows has a labelled token`;
  return `token mean ${loss.toFixed(4)} (perplexity ${Math.exp(loss).toFixed(3)}) over ${labels} tokens of ${rows} rows`;
}
