import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { quickstartRows } from './rows.js';
import { writeQuickstartData } from './write.js';

it('writes rows and tokenizer, leaves right files alone and mends wrong ones', () => {
  const dir = mkdtempSync(join(tmpdir(), 'tstrain-quickstart-'));
  try {
    const out = join(dir, 'a', 'b');
    writeQuickstartData(out);
    const read = (name: string) => readFileSync(join(out, name), 'utf8');
    const { train, heldOut } = quickstartRows();
    expect(JSON.parse(read('train.json'))).toEqual(train);
    expect(JSON.parse(read('held_out.json'))).toEqual(heldOut);

    utimesSync(join(out, 'train.json'), 1, 1);
    writeFileSync(join(out, 'held_out.json'), '[');
    writeQuickstartData(out);
    expect(statSync(join(out, 'train.json')).mtimeMs).toBe(1000);
    expect(JSON.parse(read('held_out.json'))).toEqual(heldOut);
    expect(readdirSync(out).sort()).toEqual(['held_out.json', 'tokenizer', 'train.json']);
    expect(readdirSync(join(out, 'tokenizer')).sort()).toEqual(['tokenizer.json', 'tokenizer_config.json']);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
