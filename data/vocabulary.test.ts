import { expect, it } from 'vitest';
import { checkVocabulary } from './vocabulary.js';

const check = (ids: number[], labels: number[]) => () =>
  checkVocabulary('rows.jsonl', 7, Int32Array.from(ids), Int32Array.from(labels), 5);

it('lets ids and labels below the vocabulary size pass, and labels that are not there', () => {
  expect(check([0, 4], [-100, 4])).not.toThrow();
});

it('names file, row and the first id or label outside', () => {
  const rest =
    "is outside the model's vocabulary of 5 (ids 0 to 4). The data or the tokenizer belongs to another model.";
  expect(check([1, 5, 6], [-100, -100, -100])).toThrow(`rows.jsonl, row 7: id 5 ${rest}`);
  expect(check([1, 2], [-100, 9])).toThrow(`rows.jsonl, row 7: id 9 ${rest}`);
});
