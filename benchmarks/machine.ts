import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { availableMemory } from '../engine/machine/memory.js';
import { processor } from '../engine/machine/processor.js';
import { availableCores } from '../engine/machine/threads.js';
import { root } from './paths.js';

/** What a figure depends on besides the code. */
export interface Machine {
  processor: string;
  family?: number;
  model?: number;
  features: string[];
  cores: number;
  memory_mib: number;
}

export function describeMachine(): Machine {
  const { name, family, model, features } = processor();
  return {
    processor: name,
    family,
    model,
    features,
    cores: availableCores().physical,
    memory_mib: Math.round(availableMemory().total / 2 ** 20),
  };
}

/** A file name's worth of a machine: `intel-xeon-platinum-8488c-amx-bf16-2-cores`. */
export function machineSlug({ processor, features, cores }: Machine): string {
  const words = processor
    .replace(/\((R|TM)\)|@.*|\bCPU\b|\bProcessor\b/gi, ' ')
    .toLowerCase()
    .match(/[a-z0-9]+/g);
  return [...(words ?? ['unknown']), ...(features.at(-1)?.split('_') ?? []), cores, 'cores'].join('-');
}

/** The commit that is measured, `-dirty` when sources differ from it; `unknown` outside of a checkout and of a bundle. */
export function currentCommit(): string {
  const bundled = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).commit;
  if (bundled !== undefined) return bundled;
  const git = (...args: string[]) => spawnSync('git', args, { cwd: root, encoding: 'utf8' });
  const head = git('rev-parse', 'HEAD');
  if (head.status !== 0) return 'unknown';
  const changes = git('status', '--porcelain', '--', ':!benchmarks/results').stdout.trim();
  return head.stdout.trim() + (changes === '' ? '' : '-dirty');
}
