import type { NormalizerStep } from './schema.js';

/** What is done to a text before it is split into words. */
export function normalizer(steps: readonly NormalizerStep[]): (text: string) => string {
  const functions = steps.map(functionOf);
  return (text) => functions.reduce((result, apply) => apply(result), text);
}

function functionOf(step: NormalizerStep): (text: string) => string {
  switch (step.type) {
    case 'Prepend':
      return (text) => (text === '' ? '' : step.prepend + text);
    case 'Replace':
      return (text) => text.replaceAll(step.pattern, () => step.content);
    case 'Lowercase':
      // One by one: the Σ at the end of a word becomes σ, as elsewhere.
      return (text) => Array.from(text, (character) => character.toLowerCase()).join('');
    case 'Strip':
      return (text) => {
        const left = step.strip_left ? text.replace(/^\p{White_Space}+/u, '') : text;
        return step.strip_right ? withoutSpacesAtEnd(left) : left;
      };
    default:
      return (text) => text.normalize(step.type);
  }
}

const SPACE = /\p{White_Space}/u;

/** Where the white space at the end of a text begins. A regular expression would try from each space on. */
export function spacesAtEnd(text: string, from = 0): number {
  let end = text.length;
  while (end > from && SPACE.test(text[end - 1])) end--;
  return end;
}

function withoutSpacesAtEnd(text: string): string {
  return text.slice(0, spacesAtEnd(text));
}
