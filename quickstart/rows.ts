import { type Random, random } from './random.js';
import { SKILLS, type Skill, type Subject } from './skills.js';
import { HELD_OUT_WORDS, madeUpWord, TRAINING_WORDS } from './words.js';

/** An instruction row in the Alpaca form. */
export interface QuickstartRow {
  instruction: string;
  input?: string;
  output: string;
}

/** A row to be asked after training; `skill` names the skill it tests. */
export interface HeldOutRow extends QuickstartRow {
  skill: string;
}

/** Held-out rows of each skill. */
export const HELD_OUT_PER_SKILL = 40;

/**
 * The quickstart's instruction data: 40,000 rows to train on and 40 held-out rows of each skill, a function of
 * the seed alone.
 *
 * No held-out instruction occurs in training. Skills that work on any word (copy, capitals, reverse, counting,
 * first and last letter) are asked about words that stand in no training row, half of the time in phrasings that
 * stand in none either. Opposites and sums are facts: training sees each of them, and the held-out rows ask for
 * them in phrasings that it has not seen.
 */
export function quickstartRows(seed = 1): { train: QuickstartRow[]; heldOut: HeldOutRow[] } {
  return { train: trainingRows(random(seed)), heldOut: heldOutRows(random(seed + 1)) };
}

function trainingRows(random: Random): QuickstartRow[] {
  const rows = SKILLS.flatMap((skill) =>
    Array.from({ length: skill.trainingRows }, () =>
      row(skill, random.pick(skill.phrasings), trainingSubject(skill, random)),
    ),
  );
  return random.shuffled(rows);
}

// The reversed ones too: as outputs of the skill that reverses, they would show the word itself.
const HELD_OUT = new Set(HELD_OUT_WORDS.flatMap((word) => [word, [...word].reverse().join('')]));

function trainingSubject(skill: Skill, random: Random): Subject {
  if (skill.subjects !== 'words') return random.pick(skill.subjects);
  if (random.below(4) === 0) return random.pick(TRAINING_WORDS);
  for (;;) {
    const word = madeUpWord(random);
    if (!HELD_OUT.has(word)) return word;
  }
}

function heldOutRows(random: Random): HeldOutRow[] {
  return SKILLS.flatMap((skill) => {
    const open = skill.subjects === 'words';
    const subjects = random.shuffled<Subject>(skill.subjects === 'words' ? HELD_OUT_WORDS : skill.subjects);
    return subjects.slice(0, HELD_OUT_PER_SKILL).map((subject, i) => {
      const phrasings = open && i % 2 === 0 ? skill.phrasings : skill.heldOutPhrasings;
      return { ...row(skill, random.pick(phrasings), subject), skill: skill.name };
    });
  });
}

function row(skill: Skill, phrasing: string, subject: Subject): QuickstartRow {
  const output = skill.answer(subject);
  if (!phrasing.includes('{')) {
    return {
      instruction: phrasing,
      input: typeof subject === 'string' ? subject : subject.join(' '),
      output,
    };
  }
  const instruction =
    typeof subject === 'string'
      ? phrasing.replace('{w}', subject)
      : phrasing.replace('{a}', String(subject[0])).replace('{b}', String(subject[1]));
  return { instruction, output };
}
