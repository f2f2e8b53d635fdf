import { createHash, randomUUID } from 'node:crypto';
import {
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { fileError, UserError } from '../../errors.js';
import { removeLeftovers } from './directory.js';
import { sync } from './synced_file.js';

const HOLDER = z.object({
  pid: z.int(),
  /** In clock ticks since the machine's start. */
  startTime: z.string(),
  host: z.string(),
  boot: z.string(),
  /** Pids mean something within one namespace only (a container has its own). */
  namespace: z.string(),
});

/** A process on this or another machine: a pid alone may have been given to another process since. */
type Holder = z.infer<typeof HOLDER>;

const LOCK = '.tstrain.lock';

/**
 * Keeps two runs out of one output directory, which is made if need be, and clears away what a killed run left
 * there. The lock is a file that names its process; that of a process which has ended is taken over. It is
 * released by the returned function, or when the process exits.
 * @throws UserError naming the directory and the process that has it.
 */
export async function lockOutputDirectory(directory: string): Promise<() => void> {
  let own: Holder | undefined;
  let made: string | undefined;
  const release = () => {
    process.off('exit', release);
    try {
      if (own !== undefined && isSame(readLock(join(directory, LOCK))?.holder, own))
        rmSync(join(directory, LOCK), { force: true });
    } catch {
      // On a disk that takes no more a lock stays behind; it is that of a process which has ended.
    }
    if (made !== undefined) removeEmpty(resolve(directory), resolve(made));
  };
  try {
    made = makeDirectory(directory);
    const holder = self();
    acquire(directory, holder);
    own = holder;
    process.on('exit', release);
    removeDrafts(directory);
    await removeLeftovers(directory);
    if (made !== undefined) await syncParents(resolve(directory), resolve(made));
  } catch (error) {
    release();
    // What is told of the machine itself, in /proc, is no fault of the directory.
    const { path } = error as NodeJS.ErrnoException;
    const what = path?.startsWith('/proc/') ? path : `output_dir ${directory}`;
    throw fileError(error, what, 'choose another, or mend that');
  }
  return release;
}

/**
 * Makes a directory and those above it, as Node does too, but Node tells of a full or read-only disk that something is
 * not there.
 * @returns the first that had to be made
 */
function makeDirectory(directory: string): string | undefined {
  const parent = dirname(directory);
  let first: string | undefined;
  try {
    return make(directory) ? directory : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || parent === directory) throw error;
    first = makeDirectory(parent);
  }
  return make(directory) ? (first ?? directory) : first;
}

/** False when it is there already. */
function make(directory: string): boolean {
  try {
    mkdirSync(directory);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST' && statSync(directory).isDirectory()) return false;
    throw error;
  }
}

/** Puts the names of new directories, from `directory` up to `made`, on the disk. */
async function syncParents(directory: string, made: string): Promise<void> {
  for (let path = directory; ; path = dirname(path)) {
    await sync(dirname(path));
    if (path === made) return;
  }
}

/** Removes a directory that nothing was written into, and its parents up to `last`. */
function removeEmpty(directory: string, last: string): void {
  for (let path = directory; ; path = dirname(path)) {
    try {
      rmdirSync(path);
    } catch {
      return;
    }
    if (path === last) return;
  }
}

/** Drafts of processes that were killed within acquire(). */
function removeDrafts(directory: string): void {
  for (const name of readdirSync(directory)) {
    const match = /^\.tstrain\.lock\.(?:(\d+)|after-[0-9a-f]{16})$/.exec(name);
    if (!match) continue;
    // One that was not even written tells no more than its name.
    const holder = readLock(join(directory, name))?.holder;
    if (
      holder
        ? stateOf(holder) === 'ended'
        : match[1] === undefined || startTimeOf(Number(match[1])) === undefined
    )
      rmSync(join(directory, name), { force: true });
  }
}

/**
 * A lock is taken by a link, which appears at once with its contents and fails where there is one already. Nobody
 * removes the lock of an ended process, for it may be another's by then: the next one is a file named after the one
 * that it follows, which only one process can make, and so on. Who stands at the end of that row has the directory, and
 * moves its lock to the row's beginning. A row that was moved meanwhile leads elsewhere, so each looks again.
 */
function acquire(directory: string, own: Holder): void {
  const lock = join(directory, LOCK);
  const draft = `${lock}.${own.pid}`;
  try {
    // A run of the same process is another one.
    const text = JSON.stringify({ ...own, run: randomUUID() });
    writeFileSync(draft, text);
    for (let taken = false; !taken; ) {
      const end = endOfRow(directory, text);
      if (!tryLink(draft, end)) continue;
      try {
        taken = endOfRow(directory, text) === end;
      } finally {
        if (!taken) rmSync(end);
      }
      if (taken && end !== lock) renameSync(end, lock);
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

/**
 * The file at the end of the row of locks: one that is not there yet, or that with the text `own`.
 * @throws UserError when another run has the directory
 */
function endOfRow(directory: string, own: string): string {
  for (let path = join(directory, LOCK); ; ) {
    const found = readLock(path);
    if (found === undefined || found.text === own) return path;
    if (found.holder !== undefined) refuseIfRunning(directory, path, found.holder);
    const before = createHash('sha256').update(basename(path)).update(found.text).digest('hex').slice(0, 16);
    path = join(directory, `${LOCK}.after-${before}`);
  }
}

function tryLink(existing: string, path: string): boolean {
  try {
    linkSync(existing, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function refuseIfRunning(directory: string, lock: string, holder: Holder): void {
  const state = stateOf(holder);
  if (state === 'ended') return;
  const who = `process ${holder.pid} on ${holder.host}`;
  throw new UserError(
    state === 'running'
      ? `${directory}: another run is writing here (${who}); wait for it, or choose another output_dir`
      : `${directory}: ${who} may be writing here, which cannot be seen from this machine or container; ` +
          `if that run has ended, delete ${lock}`,
  );
}

/**
 * Undefined when there is none. Its holder is undefined when it cannot be read: a machine that lost power can leave an
 * empty file.
 */
function readLock(path: string): { text: string; holder: Holder | undefined } | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return { text, holder: HOLDER.parse(JSON.parse(text)) };
  } catch {
    return { text, holder: undefined };
  }
}

function stateOf(holder: Holder): 'running' | 'ended' | 'unknown' {
  const own = self();
  if (holder.boot !== own.boot) return holder.host === own.host ? 'ended' : 'unknown';
  if (holder.namespace !== own.namespace) return 'unknown';
  return startTimeOf(holder.pid) === holder.startTime ? 'running' : 'ended';
}

function self(): Holder {
  return {
    pid: process.pid,
    startTime: startTimeOf(process.pid) ?? '',
    host: hostname(),
    boot: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    namespace: readlinkSync('/proc/self/ns/pid'),
  };
}

function isSame(a: Holder | undefined, b: Holder): boolean {
  return a?.pid === b.pid && a.startTime === b.startTime && a.boot === b.boot && a.namespace === b.namespace;
}

/** Undefined when no such process runs; a zombie (killed, but not yet reaped) does not run. */
function startTimeOf(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // After the name, which may hold blanks and brackets: the state is field 3 of proc(5), the start time field 22.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[22 - 3];
}
