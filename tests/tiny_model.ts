import { saveHfWeights } from '../engine/checkpoint/hf_model.js';
import { defaultDevice } from '../engine/device/addon.js';
import { parseLlamaConfig } from '../engine/model/config.js';
import { Parameters } from '../engine/model/parameters.js';
import { tinyTokenizer, writeTokenizer } from './tiny_tokenizer.js';

/** A new directory with a small random model and the tiny tokenizer. Tests change what they need. */
export async function writeTinyModel(config: Record<string, unknown> = {}): Promise<string> {
  const tokenizer = tinyTokenizer();
  const directory = writeTokenizer(tokenizer, { bos_token: '<s>', eos_token: '</s>' });
  const parsed = parseLlamaConfig(
    {
      vocab_size: Object.keys(tokenizer.model.vocab).length,
      hidden_size: 16,
      intermediate_size: 24,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      max_position_embeddings: 64,
      // Large enough for the logits of a random model to differ.
      initializer_range: 0.5,
      ...config,
    },
    'tiny model',
  );
  const parameters = new Parameters(parsed, defaultDevice(), 'fp32');
  parameters.initialize(1);
  await saveHfWeights(directory, parsed, parameters);
  parameters.dispose();
  return directory;
}
