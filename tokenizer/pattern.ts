import { SplitPreTokenizer } from '@huggingface/tokenizers';

/** A text as it is, or a regular expression in Oniguruma's syntax. */
export type Pattern = { String: string } | { Regex: string };

/**
 * The pattern as JavaScript's: flags `g` and `u`.
 *
 * `(?i:…)` becomes letters of both cases; s and k have a third form each, which Oniguruma takes for the same letter.
 * @throws SyntaxError where it says something that JavaScript has no words for
 */
export function compile(pattern: Pattern): RegExp {
  const split = new SplitPreTokenizer({ type: 'Split', pattern, behavior: 'Isolated', invert: true });
  const regex = split.pattern;
  if (!('Regex' in pattern) || !pattern.Regex.includes('(?i:')) return regex;
  return new RegExp(
    regex.source.replaceAll('[sS]', '[sS\u017f]').replaceAll('[kK]', '[kK\u212a]'),
    regex.flags,
  );
}
