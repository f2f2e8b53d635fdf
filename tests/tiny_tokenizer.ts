import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const byteTokens = Array.from(
  { length: 256 },
  (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
);

/** Best first. */
const merges = ['▁ ▁', 'l o', 'lo w', '▁ low', '▁low e', 'e r', '▁lowe r', '▁ n', '你 好', 'w e'];
const characters = [...'▁abcdefghijklmnopqrstuvwxyz.,!你好'];

/**
 * A LLaMA tokenizer in small: `<unk>` 0, `<s>` 1, `</s>` 2, the bytes 3 … 258, then a few characters, then the
 * products of ten merges. Tests change what they need.
 */
export function tinyTokenizer() {
  const pieces = [
    '<unk>',
    '<s>',
    '</s>',
    ...byteTokens,
    ...characters,
    ...merges.map((merge) => merge.replace(' ', '')),
  ];
  return {
    version: '1.0',
    added_tokens: ['<unk>', '<s>', '</s>'].map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: true,
      special: true,
    })),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    } as unknown,
    pre_tokenizer: null as unknown,
    post_processor: null as unknown,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    } as unknown,
    model: {
      type: 'BPE',
      dropout: null as unknown,
      unk_token: '<unk>' as string | null,
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])) as Record<string, number>,
      merges: [...merges] as unknown[],
    },
  };
}

/** Writes the files of a tokenizer into a new directory; a string is written as it is. */
export function writeTokenizer(json: unknown, config?: unknown): string {
  const directory = mkdtempSync(join(tmpdir(), 'tstrain-tokenizer-'));
  const write = (name: string, value: unknown) =>
    writeFileSync(join(directory, name), typeof value === 'string' ? value : JSON.stringify(value));
  if (json !== undefined) write('tokenizer.json', json);
  if (config !== undefined) write('tokenizer_config.json', config);
  return directory;
}
