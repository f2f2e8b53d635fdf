import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { addon } from '../engine/device/addon.js';
import { currentCommit, describeMachine, type Machine, machineSlug } from './machine.js';
import { sources } from './paths.js';

/** Fewer rounds are good for a look, not for a figure that is kept. */
export const ROUNDS_TO_STORE = 5;

/** What the figures of a result depend on; asked for before the measuring, in whose hour somebody may commit. */
export function circumstances(threads: number, rounds: number) {
  const { instructionSet, bf16Gemm } = addon.info();
  return {
    date: new Date().toISOString(),
    commit: currentCommit(),
    machine: describeMachine(),
    instruction_set: instructionSet,
    bf16_gemm: bf16Gemm,
    threads,
    rounds,
  };
}

/**
 * Stores a result: in `file`, or under a name of its own, results/<date>-<machine><suffix>.json.
 * @returns the file
 */
export function store<R extends { date: string; machine: Machine }>(
  result: R,
  { file, suffix = '' }: { file?: string; suffix?: string } = {},
): string {
  const name = `${result.date.slice(0, 10)}-${machineSlug(result.machine)}${suffix}`;
  const path = file ?? freeName(join(sources, 'results', name));
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${JSON.stringify(result, null, 1)}\n`);
  return path;
}

/** `base`.json, or `base`-2.json and so on. */
function freeName(base: string): string {
  let name = `${base}.json`;
  for (let i = 2; existsSync(name); i++) name = `${base}-${i}.json`;
  return name;
}
