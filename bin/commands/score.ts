import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { Command } from 'commander';
import { makeMicroBatch } from '../../data/batch.js';
import { countLabels, type Example, encodeAlpacaRow, encodeTokenRow } from '../../data/encode.js';
import { detectForm, type RowBatch, readRows } from '../../data/sources.js';
import { checkVocabulary } from '../../data/vocabulary.js';
import type { LlamaForCausalLM } from '../../engine/model/llama.js';
import { UserError } from '../../errors.js';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/index.js';
import { addModelOptions, checkModelDirectory, type ModelOptions, openModel } from '../load_model.js';

interface Options extends ModelOptions {
  data: string;
  json?: boolean;
}

/** What `tstrain score --json` prints of a row. */
export interface RowScore {
  /** Row number in the data file, from 0. */
  row: number;
  /** Mean over the row's labelled tokens; null without any. */
  loss: number | null;
  /** Labels after the shift: the first token of a row has no predictor. */
  label_tokens: number;
}

/** Rows go through the model end to end, up to so many tokens at a time; a longer row goes alone. */
const MICRO_BATCH_TOKENS = 4096;

/** `tstrain score`: the loss of given rows, each by itself and all together. */
export function scoreCommand({ stdout, stderr }: { stdout: Writable; stderr: Writable } = process): Command {
  return addModelOptions(new Command('score'))
    .description(
      "the loss of each row of a data file, the mean over its labelled tokens, and all labelled tokens' mean",
    )
    .requiredOption('--data <file>', 'rows as for training: JSON array or JSONL; nothing is truncated')
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
    const { vocabSize, maxPositionEmbeddings } = model.parameters.config;
    const long: Example[] = [];
    let sum = 0;
    let labels = 0;
    let rows = 0;
    if (!options.json)
      await print(`${'row'.padStart(8)}${'label tokens'.padStart(14)}${'loss'.padStart(10)}`);
    for await (const examples of microBatches(options.data, tokenizer)) {
      for (const example of examples) {
        checkVocabulary(options.data, example.row, example.ids, example.labels, vocabSize);
        if (example.ids.length > maxPositionEmbeddings) long.push(example);
      }
      for (const score of scoreExamples(model, examples)) {
        if (score.loss !== null && !Number.isFinite(score.loss))
          throw new UserError(
            `${options.data}, row ${score.row}: its loss is ${score.loss}: the weights of this model overflow`,
          );
        sum += (score.loss ?? 0) * score.label_tokens;
        labels += score.label_tokens;
        rows++;
        await print(options.json ? JSON.stringify(score) : tableLine(score));
      }
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

/** The examples of a file in its order, as many at a time as go through the model together. */
async function* microBatches(path: string, tokenizer: Tokenizer | undefined): AsyncGenerator<Example[]> {
  let examples: Example[] = [];
  let tokens = 0;
  for await (const batch of readRows(path))
    for (const example of wholeExamples(batch, tokenizer)) {
      if (examples.length > 0 && tokens + example.ids.length > MICRO_BATCH_TOKENS) {
        yield examples;
        examples = [];
        tokens = 0;
      }
      examples.push(example);
      tokens += example.ids.length;
    }
  yield examples;
}

function* wholeExamples(batch: RowBatch, tokenizer: Tokenizer | undefined): Generator<Example> {
  for (let i = 0; i < batch.rows.length; i++) {
    const encoded =
      batch.form === 'tokens'
        ? encodeTokenRow(batch.rows[i], Number.POSITIVE_INFINITY)
        : encodeAlpacaRow(batch.rows[i], tokenizer!, Number.POSITIVE_INFINITY);
    yield { ...encoded, row: batch.firstRow + i };
  }
}

function scoreExamples(model: LlamaForCausalLM, examples: readonly Example[]): RowScore[] {
  const counts = examples.map(({ labels }) => countLabels(labels));
  const labelled = examples.filter((_, i) => counts[i] > 0);
  const losses =
    labelled.length === 0
      ? new Float32Array()
      : model.losses(makeMicroBatch({ example: (index) => labelled[index] }, [...labelled.keys()]));
  let end = 0;
  return examples.map(({ row }, i) => {
    const own = losses.subarray(end, (end += counts[i]));
    const loss = counts[i] === 0 ? null : own.reduce((total, x) => total + x, 0) / counts[i];
    return { row, loss, label_tokens: counts[i] };
  });
}

/** About rows with positions that the model was not made for. */
function longRowsWarning(path: string, most: number, long: readonly Example[]): string {
  const longest = long.reduce((a, b) => (b.ids.length > a.ids.length ? b : a));
  return (
    `warning: ${path}: rows longer than max_position_embeddings (${most}): ${long.length}, the longest ` +
    `row ${longest.row} with ${longest.ids.length} tokens; they were scored whole\n`
  );
}

function tableLine({ row, loss, label_tokens }: RowScore): string {
  return `${String(row).padStart(8)}${String(label_tokens).padStart(14)}${(loss?.toFixed(4) ?? '-').padStart(10)}`;
}

function summary(loss: number | null, labels: number, rows: number): string {
  if (loss === null) return `none of the ${rows} rows has a labelled token`;
  return `token mean ${loss.toFixed(4)} (perplexity ${Math.exp(loss).toFixed(3)}) over ${labels} tokens of ${rows} rows`;
}
