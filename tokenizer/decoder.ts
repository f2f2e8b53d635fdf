import { bytesOf } from './byte_level.js';
import { byteToken } from './definition.js';
import { type DecoderStep, prependScheme } from './schema.js';

/** The text of tokens: each step makes other tokens of them, and what is left at the end is joined. */
export function decoder(steps: readonly DecoderStep[]): (tokens: readonly string[]) => string {
  const functions = steps.map(functionOf);
  return (tokens) => functions.reduce((result, apply) => apply(result), tokens).join('');
}

type Step = (tokens: readonly string[]) => readonly string[];

function functionOf(step: DecoderStep): Step {
  switch (step.type) {
    case 'Replace':
      return (tokens) => tokens.map((token) => token.replaceAll(step.pattern, () => step.content));
    case 'Fuse':
      return (tokens) => [tokens.join('')];
    case 'Strip':
      return (tokens) => tokens.map((token) => strip(token, step));
    case 'Metaspace': {
      const { replacement } = step;
      const prefixed = prependScheme(step) !== 'never';
      return (tokens) =>
        tokens.map((token, i) => token.replaceAll(replacement, prefixed && i === 0 ? '' : ' '));
    }
    case 'ByteFallback':
      return joinBytes;
    case 'ByteLevel':
      return (tokens) => [
        new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(tokens.map(bytesOf))),
      ];
  }
}

function strip(token: string, { content, start, stop }: DecoderStep & { type: 'Strip' }): string {
  let from = 0;
  while (from < start && token[from] === content) from++;
  let to = token.length;
  while (token.length - to < stop && to > from && token[to - 1] === content) to--;
  return token.slice(from, to);
}

const BYTES = new Map(Array.from({ length: 256 }, (_, byte) => [byteToken(byte), byte]));

/** The byte that a token such as `<0x0A>` stands for. */
export function byteOf(token: string): number | undefined {
  return BYTES.get(token);
}

/** Runs of byte tokens become what they spell, or U+FFFD for each byte of a run that is not UTF-8. */
function joinBytes(tokens: readonly string[]): string[] {
  const joined: string[] = [];
  let run: number[] = [];
  const end = () => {
    if (run.length > 0) joined.push(decodeBytes(Uint8Array.from(run)));
    run = [];
  };
  for (const token of tokens) {
    const byte = byteOf(token);
    if (byte !== undefined) run.push(byte);
    else {
      end();
      joined.push(token);
    }
  }
  end();
  return joined;
}

function decodeBytes(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return '\uFFFD'.repeat(bytes.length);
  }
}
