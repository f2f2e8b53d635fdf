import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadDataset, makeMicroBatch } from '../data/index.js';
import { addon, defaultDevice } from '../engine/device/addon.js';
import { defaultThreads } from '../engine/machine/threads.js';
import { parseLlamaConfig } from '../engine/model/config.js';
import { LlamaForCausalLM } from '../engine/model/llama.js';
import { Parameters } from '../engine/model/parameters.js';
import { evaluate } from '../engine/train/loop.js';
import { nextToken } from '../engine/train/objective.js';
import { loadTokenizer } from '../tokenizer/index.js';
import { Cli } from './cli.js';
import { compareWithTransformers, peerPython } from './hf_logits.js';
import { describeShared, shared } from './shared.js';
import { RunDirectory } from './tiny_run.js';

// A model from scratch on real instructions and GPT-4's answers: minutes of training, so only when asked for.
const ROWS = 'data/alpaca_gpt4_en_999.json';
const tokenizerDirectory = shared('tokenizers/llama');

const MODEL = {
  vocab_size: 32000,
  hidden_size: 288,
  intermediate_size: 768,
  num_hidden_layers: 6,
  num_attention_heads: 6,
  max_position_embeddings: 512,
  tie_word_embeddings: true,
};
const SEED = 42;

describe.skipIf(!process.env.TSTRAIN_LONG_TESTS)('with TSTRAIN_LONG_TESTS=1', () => {
  describeShared('900 real rows, loss on 99 others', [ROWS, 'tokenizers/llama'], () => {
    let cli: Cli;
    let directory: RunDirectory;
    beforeAll(async () => {
      cli = await Cli.compile();
      directory = new RunDirectory();
      const rows = JSON.parse(readFileSync(shared(ROWS), 'utf8'));
      directory.writeRows('train.jsonl', rows.slice(0, 900));
      directory.writeRows('held_out.jsonl', rows.slice(900));
    });
    afterAll(() => {
      cli.remove();
      directory.remove();
    });

    it('before training: about ln 32000', async () => {
      addon.setThreads(defaultThreads());
      const tokenizer = await loadTokenizer(tokenizerDirectory);
      const dataset = await loadDataset({
        path: directory.at('held_out.jsonl'),
        tokenizer: () => tokenizer,
        modelMaxLength: 512,
        keepUnlabelledRows: false,
        threads: 1,
        cacheDirectory: directory.at('.cache/tstrain'),
      });
      expect(dataset.length).toBe(99);
      const parameters = new Parameters(parseLlamaConfig(MODEL, '15m'), defaultDevice(), 'fp32');
      parameters.initialize(SEED);
      const model = new LlamaForCausalLM(parameters);
      const batches = Array.from({ length: dataset.length }, (_, i) => makeMicroBatch(dataset, [i]));
      const objective = nextToken(model, { gradientCheckpointing: false });
      const { eval_loss: loss } = (await evaluate(objective, batches, () => undefined))!;
      model.dispose();
      expect(loss).toBeGreaterThan(10.3);
      expect(loss).toBeLessThan(10.5);
    });

    it.each([['fp32'], ['bf16']])(
      '%s: after one epoch below 6.8, and transformers agrees',
      async (precision) => {
        directory.writeConfig({
          model_config: MODEL,
          tokenizer_name_or_path: tokenizerDirectory,
          data_path: 'train.jsonl',
          eval_data_path: 'held_out.jsonl',
          eval_strategy: 'epoch',
          output_dir: precision,
          model_max_length: 512,
          num_train_epochs: 1,
          per_device_train_batch_size: 4,
          learning_rate: 1e-3,
          logging_steps: 5,
          seed: SEED,
          bf16: precision === 'bf16',
          threads: undefined,
        });
        const run = cli.start(directory.path, ['--config', 'run.yaml']);
        run.child.stdout!.pipe(process.stdout, { end: false });
        expect(await run.ended).toMatchObject({ status: 0, stderr: '' });

        const { step, eval_loss } = directory.metrics(precision).at(-1)!;
        expect(step).toBe(225);
        // PyTorch comes to 6.45.
        expect(eval_loss).toBeLessThan(6.8);
        if (peerPython === undefined) return;

        const tokenizer = await loadTokenizer(directory.at(precision));
        const ids = [
          tokenizer.bosId!,
          ...tokenizer.encode('Explain why the sky is blue to a child, in three short sentences.'),
        ];
        const { difference, largest } = await compareWithTransformers(directory.at(precision), ids);
        console.log(`${precision}: logits differ by ${difference} of ${largest}`);
        // Two float32 computations of some hundred roundings each.
        expect(difference).toBeLessThan(1e-5 * largest);
      },
      3_600_000,
    );
  });
});
