import Module, { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const TOKENIZERS = '@xenova/transformers/src/tokenizers.js';

/**
 * The tokenizers of `@xenova/transformers`, imported when the first tokenizer is loaded: that takes 0.2 s.
 *
 * The package would also load onnxruntime's addon, which tokenizing never calls and which is not made for worker
 * threads: after a thread that had it has ended, it cannot be loaded again, and at times it corrupts the heap. So its
 * binding is entered among the loaded modules beforehand, empty.
 */
export async function library() {
  const require = createRequire(createRequire(import.meta.url).resolve(TOKENIZERS));
  const binding = join(dirname(require.resolve('onnxruntime-node')), 'binding.js');
  if (require.cache[binding] === undefined) {
    const empty = new Module(binding);
    empty.filename = binding;
    empty.exports = { binding: {} };
    empty.loaded = true;
    require.cache[binding] = empty;
  }
  return import('@xenova/transformers/src/tokenizers.js');
}
