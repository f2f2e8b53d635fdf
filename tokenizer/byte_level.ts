import { ByteLevelPreTokenizer } from '@huggingface/tokenizers';

/**
 * The character that stands for each byte in a byte-level vocabulary, as GPT-2 chose them: printable ones for
 * themselves, the others for characters from U+0100 on.
 */
export const BYTE_CHARACTERS: readonly string[] = Object.values(
  new ByteLevelPreTokenizer({ type: 'ByteLevel' }).byte_encoder,
);

const BYTES = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));

/** The UTF-8 bytes of a text, each as its character. */
export function spellBytes(text: string): string {
  let spelt = '';
  for (const byte of Buffer.from(text)) spelt += BYTE_CHARACTERS[byte];
  return spelt;
}

/** The bytes of a token; those of its own text where a character of it stands for none. */
export function bytesOf(token: string): Uint8Array {
  const bytes = Array.from(token, (character) => BYTES.get(character));
  return bytes.every((byte) => byte !== undefined) ? Uint8Array.from(bytes) : Buffer.from(token);
}
