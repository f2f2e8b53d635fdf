import { OPPOSITES } from './words.js';

/** What a phrasing is filled with: a word for `{w}`, or two numbers for `{a}` and `{b}`. */
export type Subject = string | readonly [number, number];

/**
 * One thing to be learned. A phrasing with `{w}` (or `{a}` and `{b}`) carries its subject in the instruction; one
 * without takes it as the row's `input`, a word as it is and numbers as `3 4`.
 */
export interface Skill {
  name: string;
  /** The right output for a subject. */
  answer(subject: Subject): string;
  /** Where subjects come from: any word, or this closed list, which training must know whole. */
  subjects: 'words' | readonly Subject[];
  /**
   * Phrasings of training rows. They are short, and the word comes last: a model reads words letter by letter, and
   * learns much sooner where one begins and ends when its place is always the same.
   */
  phrasings: readonly string[];
  /** Phrasings that only held-out rows use, made of words that training phrasings use. */
  heldOutPhrasings: readonly string[];
  /** Rows of this skill in training; spelling whole words takes longest to learn. */
  trainingRows: number;
}

const word = (answer: (word: string) => string) => (subject: Subject) => answer(subject as string);

const opposite = new Map(OPPOSITES.flatMap(([a, b]) => [[a, b] as const, [b, a] as const]));

const DIGITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

export const SKILLS: readonly Skill[] = [
  {
    name: 'copy',
    answer: word((w) => w),
    subjects: 'words',
    phrasings: [
      'Repeat {w}.',
      'Repeat the word {w}.',
      'Copy {w}.',
      'Say {w}.',
      'Repeat: {w}',
      'Copy the input.',
    ],
    heldOutPhrasings: ['Copy the word {w}.', 'Say the word {w}.'],
    trainingRows: 6000,
  },
  {
    name: 'capitals',
    answer: word((w) => w.toUpperCase()),
    subjects: 'words',
    phrasings: [
      'In capitals: {w}',
      'Write in capitals: {w}',
      'In capital letters: {w}',
      'Capitalize {w}.',
      'Capitalize the input.',
    ],
    heldOutPhrasings: ['Write in capital letters: {w}', 'Capitalize the word {w}.'],
    trainingRows: 7000,
  },
  {
    name: 'reverse',
    answer: word((w) => [...w].reverse().join('')),
    subjects: 'words',
    phrasings: [
      'Reverse {w}.',
      'Reverse the word {w}.',
      'Spell backwards: {w}',
      'Backwards: {w}',
      'Reverse the input.',
    ],
    heldOutPhrasings: ['Write backwards: {w}', 'Spell the word backwards: {w}'],
    trainingRows: 9000,
  },
  {
    name: 'letter_count',
    answer: word((w) => String(w.length)),
    subjects: 'words',
    phrasings: [
      'How many letters are in {w}?',
      'How many letters are in the word {w}?',
      'How many letters has {w}?',
      'Count the letters of {w}.',
      'Letters in {w}:',
      'Count the letters.',
    ],
    heldOutPhrasings: ['How many letters has the word {w}?', 'Count the letters in {w}.'],
    trainingRows: 3000,
  },
  {
    name: 'first_letter',
    answer: word((w) => w[0]),
    subjects: 'words',
    phrasings: [
      'What is the first letter of {w}?',
      'Write the first letter of {w}.',
      'First letter of {w}:',
      'First letter of the word {w}:',
      'Write the first letter.',
    ],
    heldOutPhrasings: [
      'What is the first letter of the word {w}?',
      'Write the first letter of the word {w}.',
    ],
    trainingRows: 3000,
  },
  {
    name: 'last_letter',
    answer: word((w) => w[w.length - 1]),
    subjects: 'words',
    phrasings: [
      'What is the last letter of {w}?',
      'Write the last letter of {w}.',
      'Last letter of {w}:',
      'Last letter of the word {w}:',
      'Write the last letter.',
    ],
    heldOutPhrasings: ['What is the last letter of the word {w}?', 'Write the last letter of the word {w}.'],
    trainingRows: 3000,
  },
  {
    name: 'opposite',
    answer: word((w) => opposite.get(w)!),
    subjects: [...opposite.keys()],
    phrasings: [
      'What is the opposite of {w}?',
      'Write the opposite of {w}.',
      'Opposite of {w}:',
      'Opposite of the word {w}:',
      'Write the opposite.',
    ],
    heldOutPhrasings: ['What is the opposite of the word {w}?', 'Write the opposite of the word {w}.'],
    trainingRows: 6000,
  },
  {
    name: 'sum',
    answer: (subject) => String((subject[0] as number) + (subject[1] as number)),
    subjects: DIGITS.flatMap((a) => DIGITS.map((b) => [a, b] as const)),
    phrasings: [
      'What is {a} + {b}?',
      'Add {a} and {b}.',
      'How much is {a} plus {b}?',
      '{a} + {b} =',
      'Add the numbers.',
    ],
    heldOutPhrasings: ['What is {a} plus {b}?', 'How much is {a} + {b}?'],
    trainingRows: 3000,
  },
];
