import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { RunDirectory, TINY } from '../tests/tiny_run.js';
import { tinyTokenizer, writeTokenizer } from '../tests/tiny_tokenizer.js';
import { finetune } from './finetune.js';

let directory: RunDirectory;
let tokenizer: string;
beforeEach(() => {
  directory = new RunDirectory();
  tokenizer = writeTokenizer(tinyTokenizer(), { add_bos_token: true });
  vi.stubEnv('XDG_CACHE_HOME', directory.at('.cache'));
  directory.writeRows('rows.jsonl', [{ instruction: 'low', output: 'lower' }]);
});
afterEach(() => {
  directory.remove();
  rmSync(tokenizer, { recursive: true, force: true });
  vi.unstubAllEnvs();
});

it('of a run are read once: what becomes of them later does not matter to what it saves', async () => {
  writeFileSync(join(tokenizer, 'chat_template.jinja'), '{{ messages }}');
  writeFileSync(join(tokenizer, 'README.md'), 'of the tokenizer');
  await finetune(
    {
      model_config: { ...TINY, vocab_size: 400 },
      tokenizer_name_or_path: tokenizer,
      data_path: directory.at('rows.jsonl'),
      output_dir: directory.at('out'),
      max_steps: 2,
      save_steps: 1,
      threads: 1,
    },
    { onStart: () => rmSync(tokenizer, { recursive: true }) },
  );
  for (const model of ['out', 'out/checkpoint-1']) {
    expect(directory.text(model, 'tokenizer.json')).toBe(JSON.stringify(tinyTokenizer()));
    expect(directory.text(model, 'tokenizer_config.json')).toBe('{"add_bos_token":true}');
    expect(directory.text(model, 'chat_template.jinja')).toBe('{{ messages }}');
    expect(directory.list(model)).not.toContain('README.md');
  }
});

it('are those of rows of token ids too, which need no tokenizer to be read, whatever kind it is', async () => {
  const json = { ...tinyTokenizer(), pre_tokenizer: { type: 'UnicodeScripts' } };
  writeFileSync(join(tokenizer, 'tokenizer.json'), JSON.stringify(json));
  directory.writeRows('rows.jsonl', [{ ids: [1, 5, 6], prompt_len: 1 }]);
  await finetune({
    model_config: TINY,
    tokenizer_name_or_path: tokenizer,
    data_path: directory.at('rows.jsonl'),
    output_dir: directory.at('out'),
    max_steps: 1,
    threads: 1,
  });
  expect(JSON.parse(directory.text('out', 'tokenizer.json'))).toEqual(json);
});
