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
  /** Phrasings of training rows. */
  phrasings: readonly string[];
  /** Phrasings that only held-out rows use, made of words that training phrasings use. */
  heldOutPhrasings: readonly string[];
  /** Rows of this skill in training; spelling whole words takes longest to learn. */
  trainingRows: number;
}

/**
 * The phrasings of a skill on words: every question about `{w}` also asks about `the word {w}`. The held-out ones
 * are left out; the others show what they are made of, so that a model can understand them without having seen
 * them. The word comes last: one that is read letter by letter is learned much sooner at a fixed place.
 */
function phrasings(questions: readonly string[], heldOutPhrasings: readonly string[], onInput: string) {
  const all = questions.flatMap((question) => [question, question.replace('{w}', 'the word {w}')]);
  return { phrasings: [...all.filter((one) => !heldOutPhrasings.includes(one)), onInput], heldOutPhrasings };
}

/** The questions for something that a word has. */
const questionsFor = (what: string) =>
  ['What is', 'Write', 'Say', 'Give', 'Find'].map(
    (start) => `${start} the ${what} of {w}${start === 'What is' ? '?' : '.'}`,
  );

const word = (answer: (word: string) => string) => (subject: Subject) => answer(subject as string);

const opposite = new Map(OPPOSITES.flatMap(([a, b]) => [[a, b] as const, [b, a] as const]));

const DIGITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

export const SKILLS: readonly Skill[] = [
  {
    name: 'copy',
    answer: word((w) => w),
    subjects: 'words',
    ...phrasings(
      ['Repeat {w}.', 'Copy {w}.', 'Say {w}.', 'Write {w}.', 'Echo {w}.'],
      ['Copy the word {w}.', 'Echo the word {w}.'],
      'Copy the input.',
    ),
    trainingRows: 6000,
  },
  {
    name: 'capitals',
    answer: word((w) => w.toUpperCase()),
    subjects: 'words',
    ...phrasings(
      [
        'Capitalize {w}.',
        'Uppercase {w}.',
        'Write in capitals {w}.',
        'Say in capitals {w}.',
        'Put in capitals {w}.',
      ],
      ['Uppercase the word {w}.', 'Put in capitals {w}.'],
      'Capitalize the input.',
    ),
    trainingRows: 6500,
  },
  {
    name: 'reverse',
    answer: word((w) => [...w].reverse().join('')),
    subjects: 'words',
    ...phrasings(
      [
        'Reverse {w}.',
        'Turn around {w}.',
        'Spell backwards {w}.',
        'Write backwards {w}.',
        'Say backwards {w}.',
      ],
      ['Turn around the word {w}.', 'Write backwards {w}.'],
      'Reverse the input.',
    ),
    trainingRows: 8500,
  },
  {
    name: 'letter_count',
    answer: word((w) => String(w.length)),
    subjects: 'words',
    ...phrasings(
      [
        'How many letters has {w}?',
        'How many letters are in {w}?',
        'Count the letters of {w}.',
        'Count the letters in {w}.',
        'Give the number of letters in {w}.',
      ],
      ['How many letters has the word {w}?', 'Count the letters in {w}.'],
      'Count the letters.',
    ),
    trainingRows: 3500,
  },
  {
    name: 'first_letter',
    answer: word((w) => w[0]),
    subjects: 'words',
    ...phrasings(
      questionsFor('first letter'),
      ['Say the first letter of the word {w}.', 'Find the first letter of {w}.'],
      'Write the first letter.',
    ),
    trainingRows: 3500,
  },
  {
    name: 'last_letter',
    answer: word((w) => w[w.length - 1]),
    subjects: 'words',
    ...phrasings(
      questionsFor('last letter'),
      ['Give the last letter of the word {w}.', 'Write the last letter of {w}.'],
      'Write the last letter.',
    ),
    trainingRows: 3500,
  },
  {
    name: 'opposite',
    answer: word((w) => opposite.get(w)!),
    subjects: [...opposite.keys()],
    ...phrasings(
      questionsFor('opposite'),
      ['Find the opposite of the word {w}.', 'Say the opposite of {w}.'],
      'Write the opposite.',
    ),
    trainingRows: 5500,
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
