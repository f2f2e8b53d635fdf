import { spacesAtEnd } from './normalizer.js';
import type { AddedToken } from './schema.js';

/** A part of a text: an added token (`id`), or a stretch of ordinary text between them. */
export type Section = { id: number } | { text: string };

const WORD_BEFORE = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const WORD_AFTER = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
const SPACES = /\p{White_Space}*/uy;

/**
 * Makes the function that splits a text at the added tokens written in it: the leftmost first, of several that begin
 * at one place the longest. A token with `lstrip` or `rstrip` swallows the white space on that side; one with
 * `single_word` is none where it touches a letter, a digit or the like. Empty stretches are left out.
 */
export function sectionSplitter(tokens: readonly AddedToken[]): (text: string) => Section[] {
  if (tokens.length === 0) return (text) => (text === '' ? [] : [{ text }]);
  const known = new Map(tokens.map((token) => [token.content, token]));
  const longestFirst = [...known.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(longestFirst.map(escapeRegExp).join('|'), 'g');
  // Most texts hold none, which is soon seen: the pattern itself tries all alternatives at each place.
  const starts = new RegExp(
    `[${[...new Set(longestFirst.map((content) => content[0]))].map(escapeRegExp).join('')}]`,
  );
  return (text) => {
    if (text !== '' && !starts.test(text)) return [{ text }];
    const sections: Section[] = [];
    let end = 0;
    for (const { 0: content, index } of text.matchAll(pattern)) {
      const token = known.get(content)!;
      let [from, to] = [index, index + content.length];
      if (token.single_word && touchesWord(text, from, to)) continue;
      if (token.lstrip) from = spacesAtEnd(text.slice(0, from), end);
      if (token.rstrip) {
        SPACES.lastIndex = to;
        to += SPACES.exec(text)![0].length;
      }
      if (from > end) sections.push({ text: text.slice(end, from) });
      sections.push({ id: token.id });
      end = to;
    }
    if (end < text.length) sections.push({ text: text.slice(end) });
    return sections;
  };
}

/** Two code units on each side hold the neighbouring characters. */
function touchesWord(text: string, from: number, to: number): boolean {
  return WORD_BEFORE.test(text.slice(Math.max(0, from - 2), from)) || WORD_AFTER.test(text.slice(to, to + 2));
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}
