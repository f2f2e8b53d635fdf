export type { Definition } from './definition.js';
export { readTokenizerFiles, type TokenizerFiles } from './files.js';
export type { TokenStream } from './stream.js';
export {
  type DecodeOptions,
  type EncodeOptions,
  loadTokenizer,
  makeTokenizer,
  type Tokenizer,
  tokenizerOf,
} from './tokenizer.js';
