import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cli } from './cli.js';
import { compareWithTransformers, peerPython } from './hf_logits.js';
import { RunDirectory, randomRows, TINY } from './tiny_run.js';

describe.skipIf(peerPython === undefined)(
  'what a run leaves opens in transformers (TSTRAIN_PEER_PYTHON)',
  () => {
    let cli: Cli;
    let directory: RunDirectory;
    beforeAll(async () => {
      cli = await Cli.compile();
      directory = new RunDirectory();
      directory.writeRows('rows.jsonl', randomRows(40, 1));
    });
    afterAll(() => {
      cli.remove();
      directory.remove();
    });

    it.each([
      ['fp32', {}],
      ['bf16, tied', { bf16: true, model_config: { ...TINY, tie_word_embeddings: true, rope_theta: 500 } }],
      [
        'scaled RoPE, a head size of its own',
        {
          model_config: {
            ...TINY,
            head_dim: 10,
            rope_scaling: {
              rope_type: 'llama3',
              factor: 4,
              low_freq_factor: 1,
              high_freq_factor: 4,
              original_max_position_embeddings: 16,
            },
          },
        },
      ],
    ])(
      'with the same logits: %s',
      async (name, settings) => {
        const output = name.split(/\W/)[0];
        directory.writeConfig({
          max_steps: 60,
          save_strategy: 'steps',
          save_steps: 30,
          output_dir: output,
          ...settings,
        });
        expect(await cli.run(directory.path, '--config', 'run.yaml')).toMatchObject({
          status: 0,
          stderr: '',
        });
        const ids = randomRows(1, 9, 40)[0].ids.concat([1, 2, 3, 4, 5, 6, 7, 8]);
        for (const model of [output, `${output}/checkpoint-30`]) {
          const { difference, largest } = await compareWithTransformers(directory.at(model), ids);
          console.log(`${model}: logits differ by ${difference} of ${largest}`);
          // Two float32 computations; measured 3e-7.
          expect(difference).toBeLessThan(2e-6 * largest);
          expect(largest).toBeGreaterThan(1);
        }
        // On a busy machine torch takes half a minute to import.
      },
      600_000,
    );
  },
);
