import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { describeShared, shared } from '../tests/shared.js';
import { formatPrompt } from './prompt.js';

const goldens = shared('goldens/alpaca');

describe('formatPrompt', () => {
  it('leaves the input out when it is absent or empty, and counts a space as an input', () => {
    const without = formatPrompt({ instruction: 'Say {input}.' });
    expect(without).toBe(
      'Below is an instruction that describes a task. Write a response that appropriately completes the request.' +
        '\n\n### Instruction:\nSay {input}.\n\n### Response:',
    );
    expect(formatPrompt({ instruction: 'Say {input}.', input: '' })).toBe(without);
    expect(formatPrompt({ instruction: 'Add.', input: ' ' })).toBe(
      'Below is an instruction that describes a task, paired with an input that provides further context. ' +
        'Write a response that appropriately completes the request.' +
        '\n\n### Instruction:\nAdd.\n\n### Input:\n \n\n### Response:',
    );
  });
});

describeShared('formatPrompt against the reference prompts', ['goldens/alpaca', 'data'], () => {
  it.each(['rows_512.jsonl', 'rows_64.jsonl', 'edge_512.jsonl'])('%s', (name) => {
    const lines = readFileSync(`${goldens}/${name}`, 'utf8').trim().split('\n');
    for (const line of lines) {
      const golden = JSON.parse(line);
      const folder = golden.file === 'edge_rows.json' ? goldens : shared('data');
      const row = rowsOf(`${folder}/${golden.file}`)[golden.row];
      expect(formatPrompt(row)).toBe(golden.prompt);
      expect(`${row.output}</s>`).toBe(golden.target);
    }
  });
});

const files = new Map<string, { instruction: string; input?: string; output: string }[]>();
function rowsOf(path: string) {
  if (!files.has(path)) files.set(path, JSON.parse(readFileSync(path, 'utf8')));
  return files.get(path)!;
}
