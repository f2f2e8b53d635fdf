import { describe, expect, it } from 'vitest';
import { HELD_OUT_PER_SKILL, quickstartRows } from './rows.js';
import { SKILLS } from './skills.js';
import { HELD_OUT_WORDS, OPPOSITES, TRAINING_WORDS } from './words.js';

const { train, heldOut } = quickstartRows();
const OPEN = SKILLS.filter((skill) => skill.subjects === 'words').map((skill) => skill.name);

/** Undoes the filling of a phrasing: `Copy stone.` matches `Copy {w}.`. */
function pattern(phrasing: string): RegExp {
  const literal = phrasing.replace(/[.?+]/g, '\\$&');
  return new RegExp(`^${literal.replace(/\{\w\}/g, '(\\w+)')}$`);
}

describe('quickstart rows', () => {
  it('are a function of the seed', () => {
    expect(quickstartRows()).toEqual({ train, heldOut });
    expect(quickstartRows(7).train).not.toEqual(train);
    expect(quickstartRows(7).heldOut).not.toEqual(heldOut);
  });

  it('are 40,000 to train on and the same number of held-out rows for each skill', () => {
    expect(train).toHaveLength(40_000);
    for (const { name } of SKILLS) {
      expect(heldOut.filter((row) => row.skill === name)).toHaveLength(HELD_OUT_PER_SKILL);
    }
    expect(SKILLS.length).toBeGreaterThanOrEqual(6);
  });

  it('have the right answers', () => {
    const answers = {
      copy: 'actor',
      capitals: 'ACTOR',
      reverse: 'rotca',
      letter_count: '5',
      first_letter: 'a',
      last_letter: 'r',
    };
    for (const [name, answer] of Object.entries(answers)) {
      expect(SKILLS.find((skill) => skill.name === name)!.answer('actor'), name).toBe(answer);
    }
    const opposite = SKILLS.find((skill) => skill.name === 'opposite')!;
    for (const [a, b] of OPPOSITES) expect([opposite.answer(a), opposite.answer(b)]).toEqual([b, a]);
    const sum = SKILLS.find((skill) => skill.name === 'sum')!;
    expect(sum.answer([9, 4])).toBe('13');
  });

  it('take the subject from the input where the phrasing does not hold it', () => {
    const withInput = train.filter((row) => row.input !== undefined);
    expect(withInput.length).toBeGreaterThan(4000);
    expect(withInput.every((row) => row.input !== '')).toBe(true);
    expect(withInput.find((row) => row.instruction === 'Copy the input.')).toMatchObject({
      output: expect.stringMatching(/^[a-z]{3,6}$/),
    });
    expect([...train, ...heldOut].filter((row) => row.instruction.includes('{'))).toEqual([]);
  });
});

describe('the held-out part', () => {
  it('shares no instruction with training', () => {
    const key = (row: { instruction: string; input?: string }) =>
      JSON.stringify([row.instruction, row.input]);
    const seen = new Set(train.map(key));
    expect(heldOut.filter((row) => seen.has(key(row)))).toEqual([]);
    expect(new Set(heldOut.map(key)).size).toBe(heldOut.length);
  });

  it('asks every open skill about words that no training row contains', () => {
    const words = (row: object) =>
      Object.values(row).flatMap((text) => String(text).toLowerCase().match(/\w+/g)!);
    const seen = new Set(train.flatMap(words));
    expect(HELD_OUT_WORDS.filter((word) => seen.has(word))).toEqual([]);
    for (const row of heldOut.filter((row) => OPEN.includes(row.skill))) {
      expect(
        words(row).filter((word) => HELD_OUT_WORDS.includes(word)).length,
        row.instruction,
      ).toBeGreaterThan(0);
    }
  });

  it('asks half of an open skill, and all of a closed one, in phrasings that training has not', () => {
    for (const skill of SKILLS) {
      const unseen = skill.heldOutPhrasings.map(pattern);
      const isUnseen = (row: { instruction: string }) => unseen.some((p) => p.test(row.instruction));
      expect(train.filter(isUnseen), skill.name).toEqual([]);
      const share =
        heldOut.filter((row) => row.skill === skill.name).filter(isUnseen).length / HELD_OUT_PER_SKILL;
      expect(share, skill.name).toBe(OPEN.includes(skill.name) ? 0.5 : 1);
    }
  });

  it('finds every fact of a closed skill in training', () => {
    const texts = train.map((row) => `${row.instruction} ${row.input ?? ''}`);
    const opposites = texts
      .filter((text) => text.includes('opposite'))
      .join(' ')
      .match(/\w+/g)!;
    expect(OPPOSITES.flat().filter((word) => !opposites.includes(word))).toEqual([]);
    const sums = texts.map((text) => text.match(/\d/g)?.join(' + '));
    for (let a = 0; a < 10; a++) for (let b = 0; b < 10; b++) expect(sums).toContain(`${a} + ${b}`);
  });
});

describe('word lists', () => {
  it('hold words of 3 to 8 small letters, none twice', () => {
    const words = [...TRAINING_WORDS, ...HELD_OUT_WORDS];
    expect(words.filter((word) => !/^[a-z]{3,6}$/.test(word))).toEqual([]);
    expect(words.filter((word, i) => words.indexOf(word) !== i)).toEqual([]);
    expect(OPPOSITES.flat().filter((word, i, all) => all.indexOf(word) !== i)).toEqual([]);
  });
});
