import type { AddedToken } from './schema.js';

/** A part of a text: a special token (`id`), or a stretch of ordinary text between them. */
export type Section = { id: number } | { text: string };

/**
 * Makes the function that splits raw text at the added tokens written in it: the leftmost first, of several
 * that begin at one place the longest. A token with `lstrip` or `rstrip` swallows the white space on that side.
 * Empty stretches are left out.
 */
export function sectionSplitter(tokens: readonly AddedToken[]): (text: string) => Section[] {
  if (tokens.length === 0) return (text) => (text === '' ? [] : [{ text }]);
  const longestFirst = [...tokens].sort((a, b) => b.content.length - a.content.length);
  const pattern = new RegExp(
    longestFirst
      .map((token) => {
        const content = escapeRegExp(token.content);
        return `${token.lstrip ? '\\s*' : ''}(${content})${token.rstrip ? '\\s*' : ''}`;
      })
      .join('|'),
    'g',
  );
  return (text) => {
    const sections: Section[] = [];
    let end = 0;
    for (const match of text.matchAll(pattern)) {
      if (match.index > end) sections.push({ text: text.slice(end, match.index) });
      const group = match.findIndex((content, index) => index > 0 && content !== undefined);
      sections.push({ id: longestFirst[group - 1].id });
      end = match.index + match[0].length;
    }
    if (end < text.length) sections.push({ text: text.slice(end) });
    return sections;
  };
}

/** A regular expression that matches exactly `text`. */
export function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}
