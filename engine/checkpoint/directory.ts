import { readdirSync, statfsSync, statSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { fileError, UserError } from '../../errors.js';
import { exists, parseJson, readError, readRegular } from '../../files.js';
import { bytesText } from '../machine/memory.js';
import { digestOf, type FileDigest, sync, writeJson } from './synced_file.js';

/**
 * Checkpoints that are whole or not there: the files are written into a hidden directory aside and synced, a
 * manifest with their sizes and checksums comes last, and one rename puts the directory in its place. A process
 * killed at any instant leaves every earlier checkpoint as it was, and at most hidden leftovers; so does a machine that
 * loses its power, because what a name is to stand for is synced before it gets that name, and no name that is to go
 * still stands on the disk when what it stood for is removed.
 *
 * Hidden names: `.tmp-checkpoint-…` and `.tmp-model-…` are being written, `.tmp-removed-…` is being deleted,
 * `.tmp-replaced-…` waits for its successor of the same name.
 */

const MANIFEST = 'manifest.json';

const MANIFEST_JSON = z.object({
  files: z.array(
    z.object({
      file: z.string().refine((name) => name === basename(name) && !name.startsWith('.')),
      bytes: z.number().int().nonnegative(),
      sha256: z.string(),
    }),
  ),
});

export interface Checkpoint {
  path: string;
  step: number;
}

/**
 * Writes files into the directory it is given, and syncs them and what else a checkpoint stands for.
 * @returns the digests of all of them, made as they were written: what is read back may be something else already
 */
export type FileWriter = (directory: string) => Promise<readonly FileDigest[]>;

/** The directories named checkpoint-<step>, whole or not, by step. */
export function listCheckpoints(outputDir: string): Checkpoint[] {
  if (!exists(outputDir)) return [];
  return readdirSync(outputDir)
    .flatMap((name) => {
      const match = /^checkpoint-(\d+)$/.exec(name);
      return match ? [{ path: join(outputDir, name), step: Number(match[1]) }] : [];
    })
    .sort((a, b) => a.step - b.step);
}

/**
 * Makes `outputDir`/checkpoint-<step> from the (flat) files that `write` writes; replaces one of the same step.
 * @returns its path.
 */
export async function writeCheckpoint(outputDir: string, step: number, write: FileWriter): Promise<string> {
  const name = `checkpoint-${step}`;
  const path = join(outputDir, name);
  await writeAside(outputDir, name, write, async (aside) => {
    const replaced = exists(path) ? join(outputDir, `.tmp-replaced-${name}-${process.pid}`) : undefined;
    if (replaced !== undefined) await rename(path, replaced);
    await rename(aside, path);
    await sync(outputDir);
    // The new one is saved: what cannot be cleared away now removeLeftovers() does later.
    if (replaced !== undefined) await rm(replaced, { recursive: true }).catch(() => {});
  });
  return path;
}

/** Weight files of any earlier model; one that stays behind could be loaded instead of the new ones. */
const WEIGHT_FILE = /^model(-\d+-of-\d+)?\.safetensors(\.index\.json)?$/;

/**
 * Puts the files that `write` writes into `outputDir` itself. Several files cannot be exchanged at once, so
 * `config.json` goes first and comes last: whoever looks in between finds no model instead of a mixture.
 */
export async function writeFinalModel(outputDir: string, write: FileWriter): Promise<void> {
  await writeAside(outputDir, 'model', write, async (aside) => {
    const files = await readdir(aside);
    await rm(join(outputDir, MANIFEST), { force: true });
    await rm(join(outputDir, 'config.json'), { force: true });
    for (const name of await readdir(outputDir))
      if (WEIGHT_FILE.test(name) && !files.includes(name)) await rm(join(outputDir, name));
    await sync(outputDir);
    const last = ['config.json', MANIFEST];
    for (const name of [...files.filter((name) => !last.includes(name)), ...last])
      if (files.includes(name)) await rename(join(aside, name), join(outputDir, name));
    await sync(outputDir);
    await rm(aside, { recursive: true });
  });
}

/** Whether output_dir itself holds a model: weights or a config.json. */
export function holdsModel(outputDir: string): boolean {
  if (!exists(outputDir)) return false;
  return readdirSync(outputDir).some((name) => name === 'config.json' || WEIGHT_FILE.test(name));
}

/**
 * Compares a checkpoint with its manifest.
 * @param required files that the manifest must list
 * @returns why it is not whole, or undefined when it is.
 */
export async function verifyCheckpoint(
  directory: string,
  required: readonly string[] = [],
): Promise<string | undefined> {
  const path = join(directory, MANIFEST);
  let json: unknown;
  try {
    if (!exists(path)) return `${MANIFEST} is missing`;
    json = parseJson(readRegular(path), path);
  } catch (error) {
    return withinDirectory(directory, error);
  }
  const { success, data: manifest } = MANIFEST_JSON.safeParse(json);
  if (!success) return `${MANIFEST} cannot be understood`;
  const unlisted = required.find((name) => !manifest.files.some(({ file }) => file === name));
  if (unlisted !== undefined) return `${MANIFEST} does not list ${unlisted}`;
  // Sizes cost nothing to compare, so they go before all checksums.
  for (const { file, bytes } of manifest.files) {
    let size: number | undefined;
    try {
      size = statSync(join(directory, file), { throwIfNoEntry: false })?.size;
    } catch (error) {
      return withinDirectory(directory, readError(error, join(directory, file)));
    }
    if (size === undefined) return `${file} is missing`;
    if (size !== bytes) return `${file} has ${size} bytes instead of ${bytes}`;
  }
  for (const { file, sha256 } of manifest.files) {
    try {
      if ((await digestOf(join(directory, file))).sha256 !== sha256)
        return `${file} does not match its checksum`;
    } catch (error) {
      return withinDirectory(directory, error);
    }
  }
  return undefined;
}

/** What was wrong with a file of a directory that has just been named. */
export function withinDirectory(directory: string, error: unknown): string {
  return (error as Error).message.replace(`${directory}/`, '');
}

/**
 * The newest checkpoint that is whole, if there is one, and the newer ones that were skipped.
 * @param verify why a checkpoint is not whole, or undefined when it is
 */
export async function newestWholeCheckpoint(
  outputDir: string,
  verify: (checkpoint: Checkpoint) => Promise<string | undefined> = ({ path }) => verifyCheckpoint(path),
): Promise<{ checkpoint: Checkpoint | undefined; skipped: { path: string; why: string }[] }> {
  const skipped: { path: string; why: string }[] = [];
  for (const checkpoint of listCheckpoints(outputDir).reverse()) {
    const why = await verify(checkpoint);
    if (why === undefined) return { checkpoint, skipped };
    skipped.push({ path: checkpoint.path, why });
  }
  return { checkpoint: undefined, skipped };
}

/** The checkpoints written here: what others name alike has no manifest. */
export function ownCheckpoints(outputDir: string): Checkpoint[] {
  return listCheckpoints(outputDir).filter(({ path }) => exists(join(path, MANIFEST)));
}

/**
 * Removes the oldest own checkpoints until `saveTotalLimit` are left. `newestStep` is the one just written: later
 * ones were skipped when the run was resumed, are not counted and stay until the run replaces them.
 */
export async function pruneCheckpoints(
  outputDir: string,
  saveTotalLimit: number,
  newestStep: number,
): Promise<void> {
  const counted = ownCheckpoints(outputDir).filter(({ step }) => step <= newestStep);
  await removeCheckpoints(outputDir, counted.slice(0, -saveTotalLimit));
}

/** Removes checkpoints: each is there whole, or not at all, at any time. */
export async function removeCheckpoints(
  outputDir: string,
  checkpoints: readonly Checkpoint[],
): Promise<void> {
  const removed: string[] = [];
  for (const { path } of checkpoints) {
    removed.push(join(outputDir, `.tmp-removed-${basename(path)}-${process.pid}`));
    await rename(path, removed.at(-1)!);
  }
  if (removed.length > 0) await sync(outputDir);
  for (const [i, path] of removed.entries())
    await rm(path, { recursive: true }).catch((error) => {
      throw fileError(error, checkpoints[i].path, 'it was to be removed, and is not whole any more');
    });
}

/**
 * Clears away what a killed process left. Only for the holder of the output directory's lock, before it looks
 * for checkpoints.
 */
export async function removeLeftovers(outputDir: string): Promise<void> {
  for (const name of await readdir(outputDir)) {
    const match = /^\.tmp-(?:(removed-|replaced-)?(checkpoint-\d+)|model)-\d+$/.exec(name);
    if (!match) continue;
    const [, what, checkpoint] = match;
    if (what === 'replaced-' && !exists(join(outputDir, checkpoint)))
      await rename(join(outputDir, name), join(outputDir, checkpoint));
    else await rm(join(outputDir, name), { recursive: true, force: true });
  }
}

/** Free bytes of the file system that `directory` is or will be on. */
export function freeDisk(directory: string): number {
  let existing = resolve(directory);
  while (!exists(existing)) existing = dirname(existing);
  const { bavail, bsize } = statfsSync(existing);
  return bavail * bsize;
}

/** @throws UserError when the disk of `directory` (or of its nearest parent that exists) has less than `bytes` free. */
export function checkFreeDisk(directory: string, bytes: number): void {
  const free = freeDisk(directory);
  if (free < bytes)
    throw new UserError(
      `${directory}: the disk has ${bytesText(free)} free, the checkpoints of this run need ${bytesText(bytes)}; ` +
        'make room, choose another output_dir or lower save_total_limit',
    );
}

async function writeAside(
  outputDir: string,
  name: string,
  write: FileWriter,
  place: (aside: string) => Promise<void>,
): Promise<void> {
  const aside = join(outputDir, `.tmp-${name}-${process.pid}`);
  try {
    await rm(aside, { recursive: true, force: true });
    await mkdir(aside);
    const files = await write(aside);
    await writeJson(join(aside, MANIFEST), { files });
    await sync(aside);
    // Names beside it that `write` has made, such as that of metrics.jsonl, are there before it is.
    await sync(outputDir);
    await place(aside);
  } catch (error) {
    // A disk that takes no more may not give anything back either; removeLeftovers() does it later.
    await rm(aside, { recursive: true, force: true }).catch(() => {});
    const target = name === 'model' ? outputDir : join(outputDir, name);
    const path = (error as NodeJS.ErrnoException).path ?? target;
    throw fileError(
      error,
      path.replace(aside, target),
      hasCheckpoints(outputDir)
        ? 'it was not saved; checkpoints saved earlier are whole: mend that, then --resume'
        : 'it was not saved',
    );
  }
}

function hasCheckpoints(outputDir: string): boolean {
  try {
    return listCheckpoints(outputDir).length > 0;
  } catch {
    // Where that cannot be seen, nothing is promised.
    return false;
  }
}
