import { spellBytes } from './byte_level.js';
import { compile } from './pattern.js';
import { type PreTokenizerStep, prependScheme } from './schema.js';

/** How a text comes apart into words; no token goes from one into the next. */
export interface PreTokenizer {
  /** `first`: the text begins what is encoded, and is not behind an added token. */
  words(text: string, first: boolean): string[];
  /** A word as the vocabulary spells it. */
  spell(word: string): string;
}

type Step = (word: string, first: boolean) => readonly string[];

/** GPT-2's words: letters, digits, other characters, each with the space before; contractions; white space. */
const WORDS = compile({
  Regex: "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
});
const WORD_CHARACTERS = compile({ Regex: '\\w+|[^\\w\\s]+' });
const PUNCTUATION = /[\p{P}$+<=>^`|~]/gu;

export function preTokenizer(steps: readonly PreTokenizerStep[]): PreTokenizer {
  const list = steps.flatMap(stepsOf);
  // Spelt last, a word is spelt once for all the times it comes.
  const spellsLast = steps.at(-1)?.type === 'ByteLevel';
  if (spellsLast) list.pop();
  return {
    words: (text, first) =>
      list.reduce<readonly string[]>(
        (words, step) =>
          words.length === 1
            ? step(words[0], first)
            : words.flatMap((word, i) => step(word, first && i === 0)),
        [text],
      ) as string[],
    spell: spellsLast ? spellBytes : (word) => word,
  };
}

function stepsOf(step: PreTokenizerStep): Step[] {
  switch (step.type) {
    case 'ByteLevel': {
      const prefix: Step = (word) => [word.startsWith(' ') ? word : ` ${word}`];
      const spell: Step = (word) => [spellBytes(word)];
      return [
        ...(step.add_prefix_space ? [prefix] : []),
        ...(step.use_regex ? [splitter(WORDS, 'Isolated')] : []),
        spell,
      ];
    }
    case 'Metaspace':
      return [metaspace(step)];
    case 'Split':
      return [splitter(step.pattern, step.behavior, step.invert)];
    case 'Digits':
      return [splitter(/\p{N}/gu, step.individual_digits ? 'Isolated' : 'Contiguous')];
    case 'Punctuation':
      return [splitter(PUNCTUATION, step.behavior)];
    case 'Whitespace':
      return [splitter(WORD_CHARACTERS, 'Removed', true)];
    case 'WhitespaceSplit':
      return [splitter(/\p{White_Space}/gu, 'Removed')];
  }
}

function metaspace(step: PreTokenizerStep & { type: 'Metaspace' }): Step {
  const { replacement, split } = step;
  const scheme = prependScheme(step);
  return (word, first) => {
    const text = word.replaceAll(' ', replacement);
    const prefix = scheme === 'always' || (scheme === 'first' && first);
    const whole = prefix && !text.startsWith(replacement) ? replacement + text : text;
    if (!split) return [whole];
    const words: string[] = [];
    for (let start = 0, end: number; start < whole.length; start = end) {
      end = whole.indexOf(replacement, start + 1);
      if (end < 0) end = whole.length;
      words.push(whole.slice(start, end));
    }
    return words;
  };
}

type Behavior = (PreTokenizerStep & { type: 'Split' })['behavior'];

/**
 * Splits at the matches of a pattern; `invert`: at what is between them. What becomes of the matches is said by
 * `behavior`, as `tokenizers` names it.
 */
function splitter(pattern: RegExp, behavior: Behavior, invert = false): Step {
  return (word) => {
    const matches = word.match(pattern) ?? [];
    // Most patterns leave nothing between their matches.
    if (behavior === 'Isolated' && matches.reduce((sum, { length }) => sum + length, 0) === word.length)
      return matches;
    return joined(parts(word, pattern, invert), behavior);
  };
}

interface Part {
  text: string;
  match: boolean;
}

function parts(word: string, pattern: RegExp, invert: boolean): Part[] {
  const list: Part[] = [];
  let end = 0;
  for (const { 0: text, index } of word.matchAll(pattern)) {
    if (text === '') continue;
    if (index > end) list.push({ text: word.slice(end, index), match: invert });
    list.push({ text, match: !invert });
    end = index + text.length;
  }
  if (end < word.length) list.push({ text: word.slice(end), match: invert });
  return list;
}

function joined(list: readonly Part[], behavior: Behavior): string[] {
  const texts: string[] = [];
  const join = (text: string) => {
    texts[texts.length - 1] += text;
  };
  for (const [i, { text, match }] of list.entries()) {
    const before = list[i - 1];
    switch (behavior) {
      case 'Removed':
        if (!match) texts.push(text);
        break;
      case 'Isolated':
        texts.push(text);
        break;
      case 'Contiguous':
        if (before?.match === match) join(text);
        else texts.push(text);
        break;
      case 'MergedWithPrevious':
        if (match && before?.match === false) join(text);
        else texts.push(text);
        break;
      case 'MergedWithNext':
        if (!match && before?.match) join(text);
        else texts.push(text);
        break;
    }
  }
  return texts;
}
