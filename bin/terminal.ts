import type { Writable } from 'node:stream';
import { visible } from '../errors.js';

/** What a model or a tokenizer says, for a stream: exact in a file or a pipe, without control characters on a terminal. */
export function shownOn(stream: Writable & { isTTY?: boolean }, text: string): string {
  return stream.isTTY ? visible(text) : text;
}
