import {
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { fileError, UserError } from '../../errors.js';
import { removeLeftovers } from './directory.js';

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
  const own = self();
  let made: string | undefined;
  let acquired = false;
  const release = () => {
    process.off('exit', release);
    if (acquired && isSame(readHolder(join(directory, LOCK)), own))
      rmSync(join(directory, LOCK), { force: true });
    if (made !== undefined) removeEmpty(resolve(directory), resolve(made));
  };
  try {
    made = mkdirSync(directory, { recursive: true });
    acquire(directory, own);
    acquired = true;
    process.on('exit', release);
    removeDrafts(directory);
    await removeLeftovers(directory);
  } catch (error) {
    release();
    throw fileError(error, `output_dir ${directory}`, 'choose another, or mend that');
  }
  return release;
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
    const pid = /^\.tstrain\.lock\.(\d+)(\.replacement)?$/.exec(name)?.[1];
    if (pid === undefined) continue;
    // One that was not even written tells no more than its name.
    const holder = readHolder(join(directory, name));
    if (holder ? stateOf(holder) === 'ended' : startTimeOf(Number(pid)) === undefined)
      rmSync(join(directory, name), { force: true });
  }
}

function acquire(directory: string, own: Holder): void {
  const lock = join(directory, LOCK);
  const takeover = `${lock}.takeover`;
  // A link appears at once with its contents and fails where there is one already.
  const draft = `${lock}.${own.pid}`;
  try {
    writeFileSync(draft, JSON.stringify(own));
    if (tryLink(draft, lock)) return;
    refuseIfRunning(directory, lock);
    // The holder has ended. Of several processes that find so, one may replace the lock; whoever comes after it
    // looks again and finds the new holder.
    while (!tryLink(draft, takeover)) {
      refuseIfRunning(directory, takeover);
      rmSync(takeover, { force: true });
    }
    try {
      refuseIfRunning(directory, lock);
      // Not the draft itself: renaming one link of a file to another does nothing.
      const replacement = `${draft}.replacement`;
      writeFileSync(replacement, JSON.stringify(own));
      renameSync(replacement, lock);
    } finally {
      rmSync(takeover, { force: true });
    }
  } finally {
    rmSync(draft, { force: true });
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

function refuseIfRunning(directory: string, lock: string): void {
  const holder = readHolder(lock);
  if (holder === undefined) return;
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

/** Undefined when there is none, or not a readable one: a machine that lost power can leave an empty file. */
function readHolder(lock: string): Holder | undefined {
  try {
    return HOLDER.parse(JSON.parse(readFileSync(lock, 'utf8')));
  } catch {
    return undefined;
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
