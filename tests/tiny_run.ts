import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { philox } from '../data/philox.js';
import type { EvalLine, TrainLine } from '../engine/train/metrics.js';

/** Numbers in [0, 1), a function of the seed. */
export function randomNumbers(seed: number): () => number {
  let count = 0;
  return () => philox([count++, 0, 0, 0], [seed, 0])[0] / 2 ** 32;
}

/** A model that trains in milliseconds; odd sizes, grouped heads. */
export const TINY = {
  vocab_size: 53,
  hidden_size: 24,
  intermediate_size: 40,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
};

export interface Row {
  ids: number[];
  prompt_len: number;
}

/** Rows of random ids of the tiny model, 2 to `longest` long, at least one label each. */
export function randomRows(count: number, seed: number, longest = 20): Row[] {
  const random = randomNumbers(seed);
  const below = (n: number) => Math.floor(random() * n);
  return Array.from({ length: count }, () => {
    const ids = Array.from({ length: 2 + below(longest - 1) }, () => below(TINY.vocab_size));
    return { ids, prompt_len: 1 + below(ids.length - 1) };
  });
}

/** A directory in which `tstrain` is run: data, settings and what a run left. */
export class RunDirectory {
  readonly path = mkdtempSync(join(tmpdir(), 'tstrain-run-'));

  writeRows(name: string, rows: readonly object[]): void {
    this.write(name, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  }

  /** Writes a config of the tiny model on rows.jsonl into out/, on one thread, with other keys on top. */
  writeConfig(settings: Record<string, unknown> = {}, name = 'run.yaml'): void {
    const config = {
      model_config: TINY,
      data_path: 'rows.jsonl',
      output_dir: 'out',
      model_max_length: 32,
      learning_rate: 1e-2,
      save_strategy: 'no',
      threads: 1,
      ...settings,
    };
    this.write(name, stringify(config));
  }

  write(name: string, text: string): void {
    writeFileSync(join(this.path, name), text);
  }

  at(...names: string[]): string {
    return join(this.path, ...names);
  }

  bytes(...names: string[]): Buffer {
    return readFileSync(this.at(...names));
  }

  text(...names: string[]): string {
    return this.bytes(...names).toString();
  }

  /** Names in a directory, sorted; none when it is missing. */
  list(...names: string[]): string[] {
    return existsSync(this.at(...names)) ? readdirSync(this.at(...names)).sort() : [];
  }

  metrics(output = 'out'): (TrainLine & EvalLine)[] {
    return this.text(output, 'metrics.jsonl')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
  }

  /** metrics.jsonl without what depends on the clock. */
  untimedMetrics(output = 'out'): string {
    return this.text(output, 'metrics.jsonl').replace(
      /,"tokens_per_second":[^,}]+,"step_time_ms":[^,}]+/g,
      '',
    );
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
