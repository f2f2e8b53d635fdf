import { describe, expect, it } from 'vitest';
import { type DatasetReport, findDuplicates, labelCountsOf, renderReport } from './report.js';

const rows = {
  ids: Int32Array.of(1, 2, 3, 1, 2, 3, 1, 2, 1, 2, 3, 1, 2, 3),
  labels: Int32Array.of(9, -100, 3, -100, -100, 3, -100, 2, -100, -100, 3, 9, -100, 3),
  lengths: Int32Array.of(3, 3, 2, 3, 3),
  truncated: new Int32Array(5),
  emptyOutputs: [],
  unreadKeys: new Map(),
};

it('findDuplicates compares ids and labels', () => {
  expect(findDuplicates(rows)).toEqual([
    { row: 3, of: 1 },
    { row: 4, of: 0 },
  ]);
});

it('labelCountsOf counts after the shift', () => {
  expect([...labelCountsOf(rows)]).toEqual([1, 1, 1, 1, 1]);
});

describe('renderReport', () => {
  const report: DatasetReport = {
    path: 'rows.json',
    form: 'alpaca',
    modelMaxLength: 512,
    rowsRead: 1200,
    truncated: [],
    unlabelled: [],
    unlabelledKept: false,
    emptyOutputs: [],
    unreadKeys: new Map(),
    duplicates: [],
    examples: 1200,
    tokens: 123456,
    labelTokens: 65432,
    longest: 500,
    tokenising: { seconds: 1.234, threads: 2 },
    cache: { file: '/c/x.bin', state: 'written' },
  };

  it('says little when there is little to say', () => {
    expect(renderReport(report)).toEqual([
      'rows.json: 1,200 rows, 1,200 used; 123,456 tokens, 65,432 with a label; the longest row has 500',
      'tokenised in 1.2 s on 2 threads; kept in /c/x.bin',
    ]);
  });

  it('lists what deserves a look, up to ten rows of each', () => {
    const lines = renderReport({
      ...report,
      examples: 1198,
      truncated: Array.from({ length: 12 }, (_, i) => ({ row: 10 * i, by: i + 1 })),
      unlabelled: [3, 70],
      emptyOutputs: [5],
      duplicates: [{ row: 9, of: 2 }],
      unreadKeys: new Map([
        ['id', 1],
        ['sys"tem', 1200],
      ]),
      tokenising: { seconds: 0, threads: null },
      cache: { file: '/c/x.bin', state: 'read' },
    });
    expect(lines).toEqual([
      'rows.json: 1,200 rows, 1,198 used; 123,456 tokens, 65,432 with a label; the longest row has 500',
      '12 rows (1.0 %) cut to model_max_length 512, losing 78 tokens: row 0 (by 1), row 10 (by 2), row 20 (by 3), ' +
        'row 30 (by 4), row 40 (by 5), row 50 (by 6), row 60 (by 7), row 70 (by 8), row 80 (by 9), row 90 (by 10) and 2 more',
      '2 rows without a label left, dropped: row 3, row 70',
      '1 row with an empty output: row 5',
      '1 row equal to an earlier row: row 9 (as 2)',
      'keys that are not used: "sys\\"tem" (filled in 1,200 rows), "id" (filled in 1 row); ' +
        'instruction, input, output are',
      'tokens read from the cache /c/x.bin',
    ]);
  });

  it('says when unlabelled rows stay, and what became of the cache', () => {
    expect(renderReport({ ...report, unlabelled: [3], unlabelledKept: true })[1]).toBe(
      '1 row without a label left, kept at zero weight (keep_unlabelled_rows): row 3',
    );
    const threads = { seconds: 2, threads: 1 };
    expect(
      renderReport({ ...report, tokenising: threads, cache: { file: '/c/x.bin', state: 'remade' } }).at(-1),
    ).toBe('tokenised in 2.0 s on 1 thread; kept in /c/x.bin, which was damaged and has been remade');
    expect(
      renderReport({ ...report, cache: { file: '/c/x.bin', state: 'not written', reason: 'ENOSPC' } }).at(-1),
    ).toBe('tokenised in 1.2 s on 2 threads; not kept, the cache cannot be written: ENOSPC');
  });
});
