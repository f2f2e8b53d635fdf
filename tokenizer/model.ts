import { Unigram } from '@huggingface/tokenizers';
import { byteToken, type Definition } from './definition.js';
import { Merges } from './merges.js';
import { PieceCutter } from './pieces.js';

/** Texts kept with their ids; then all are forgotten at once. 52,000 instructions have 73,000 words. */
const REMEMBERED = 1 << 17;
/** Longer ones hardly ever come twice. */
const REMEMBERED_LENGTH = 64;

/** A function of a text that remembers what it said of short ones. */
export function remembering(
  compute: (text: string) => readonly number[],
): (text: string) => readonly number[] {
  const known = new Map<string, readonly number[]>();
  return (text) => {
    if (text.length > REMEMBERED_LENGTH) return compute(text);
    let ids = known.get(text);
    if (ids === undefined) {
      ids = compute(text);
      if (known.size === REMEMBERED) known.clear();
      // A slice keeps the whole text it was cut from in memory; a copy does not.
      known.set(Array.from(text).join(''), ids);
    }
    return ids;
  };
}

/**
 * The ids of a word, by the model of a tokenizer, which knows nothing of what is around the word.
 * @param spell the word as the vocabulary spells it
 */
export function wordEncoder(
  { json: { model }, merges }: Definition,
  spell: (word: string) => string,
): (word: string) => readonly number[] {
  const { vocab } = model;
  const [unknown, fused] =
    model.type === 'BPE'
      ? [model.unk_token == null ? undefined : vocab.get(model.unk_token), model.fuse_unk]
      : [model.unk_id!, true];

  /** The id of a token that is left; of a character that is in no piece: its bytes, or unknown. */
  const idsOf = (token: string): number[] => {
    const id = vocab.get(token);
    if (id !== undefined) return [id];
    if (model.byte_fallback) {
      const bytes = Array.from(Buffer.from(token), (byte) => vocab.get(byteToken(byte)));
      if (bytes.every((byte) => byte !== undefined)) return bytes;
    }
    return unknown === undefined ? [] : [unknown];
  };
  const encode = (pieces: Iterable<readonly number[]>): number[] => {
    const ids: number[] = [];
    for (const piece of pieces)
      for (const id of piece) if (!fused || id !== unknown || ids.at(-1) !== id) ids.push(id);
    return ids;
  };

  if (model.type === 'Unigram') {
    const config = { type: 'Unigram', unk_id: unknown!, vocab: model.scores } as const;
    const unigram = new Unigram(config, '');
    return remembering((word) => encode(unigram.tokenize(spell(word)).map(idsOf)));
  }
  const joining = new Merges(merges);
  const cutter = new PieceCutter(merges);
  const pieceIds = remembering((piece) => joining.apply(piece).flatMap(idsOf));
  // Where nothing stands for the unknown, `tokenizers` leaves it out first and merges what is then side by side.
  const known = (spelt: string): string =>
    unknown !== undefined || model.byte_fallback
      ? spelt
      : Array.from(spelt)
          .filter((c) => vocab.has(c))
          .join('');
  return remembering((word) => {
    const spelt = spell(word);
    const whole = model.ignore_merges ? vocab.get(spelt) : undefined;
    return whole === undefined ? encode(cutter.pieces(known(spelt)).map(pieceIds)) : [whole];
  });
}
