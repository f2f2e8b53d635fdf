export type { TokenStream } from './stream.js';
export { type DecodeOptions, type EncodeOptions, loadTokenizer, type Tokenizer } from './tokenizer.js';
