import { constants } from 'node:os';
import { inspect } from 'node:util';

/**
 * An error the user can mend: its message names the file, the key or the tensor, says what was expected and
 * what to do. The command line prints the message alone, without a stack trace.
 */
export class UserError extends Error {
  override name = 'UserError';
  /** What is wrong, a line for each fault; the message has them all. */
  readonly faults: readonly string[];

  constructor(faults: string | readonly string[], options?: ErrorOptions) {
    const lines = fitting([faults].flat().map(plainLine));
    super(lines.join('\n'), options);
    this.faults = lines;
  }
}

/** Most bytes of a message for people; those that say something have some hundred. */
const MOST_BYTES = 2000;

/** As many lines as a message may have, and how many more there are. */
function fitting(lines: readonly string[]): readonly string[] {
  let bytes = 0;
  const count = lines.findIndex(
    (line) => (bytes += Buffer.byteLength(line) + 1) > MOST_BYTES - 'and 1000 more'.length,
  );
  const kept = count < 0 ? lines.length : Math.max(count, 1);
  return kept === lines.length ? lines : [...lines.slice(0, kept), `and ${lines.length - kept} more`];
}

/**
 * Any text as one line that may be shown: control characters made visible, and the middle left out of what is too long
 * (what it is about stands first, what to do last). Names in files can hold whatever their writer liked.
 */
export function plainLine(text: string): string {
  // A text of megabytes is not escaped first.
  const ends = text.length > 2 * MOST_BYTES ? text.slice(0, MOST_BYTES) + text.slice(-MOST_BYTES) : text;
  const line = visible(ends.replaceAll(/\s*\n\s*/g, ' '));
  const bytes = Buffer.from(line);
  if (bytes.length <= MOST_BYTES && ends === text) return line;
  // Cut within a character, a part of one becomes U+FFFD.
  const head = bytes
    .subarray(0, 0.65 * MOST_BYTES)
    .toString()
    .replace(/\ufffd+$/, '');
  const tail = bytes
    .subarray(-0.3 * MOST_BYTES)
    .toString()
    .replace(/^\ufffd+/, '');
  return `${head} … ${tail}`;
}

/**
 * Text without the power to command a terminal: control characters, and those that turn the direction of writing, as
 * \u001b; line feeds and tabs stay. JSON stays the same JSON.
 */
export function visible(text: string): string {
  return text.replaceAll(/[^\P{Cc}\n\t]|[\u2028-\u202e\u2066-\u2069]/gu, (character) => {
    const code = character.charCodeAt(0).toString(16).padStart(4, '0');
    return `\\u${code}`;
  });
}

/** A value as JSON for a message; what has none, being nested too deeply or holding itself, as JavaScript shows it. */
export function asJson(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return inspect(value, { depth: 1, maxArrayLength: 3, breakLength: Number.POSITIVE_INFINITY });
  }
}

/** @throws UserError for what JSON cannot say again: nested too deeply, or a YAML alias within what it stands for */
export function checkDepth(value: unknown, source: string): void {
  try {
    JSON.stringify(value);
  } catch (error) {
    throw new UserError(
      `${source}: ${error instanceof RangeError ? 'is nested too deeply' : 'holds itself (an alias within its anchor)'}`,
    );
  }
}

const REASONS: Record<string, string> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'the file would be larger than this process may write',
  EROFS: 'the file system is read-only',
  EACCES: 'permission is denied',
  EPERM: 'permission is denied',
  EEXIST: 'something else of this name is there',
  ENOTEMPTY: 'something else of this name is there',
  ENOTDIR: 'a part of the path is not a directory',
  EISDIR: 'it is a directory',
  ENOENT: 'it is not there, and cannot be made',
  ENAMETOOLONG: 'the name is too long',
  ELOOP: 'symbolic links lead in a circle',
  EIO: 'the disk reports an error',
  ESTALE: 'the file server no longer knows it',
  ETIMEDOUT: 'the file server does not answer',
  EMFILE: 'this process has too many files open (ulimit -n)',
  ENFILE: 'the machine has too many files open',
  ENOMEM: 'memory is used up',
  EBUSY: 'it is in use',
  ETXTBSY: 'it is in use',
  EXDEV: 'it is on another file system',
  EINVAL: 'the file system cannot do that',
  EOPNOTSUPP: 'the file system cannot do that',
  ENOTSUP: 'the file system cannot do that',
  ENOSYS: 'the file system cannot do that',
};

/** Why a call to the file system failed, in words; undefined of any other error. */
export function reasonOf(error: unknown): string | undefined {
  const { code, errno } = error as NodeJS.ErrnoException;
  if (typeof code !== 'string') return undefined;
  // Node has no code for some of Linux's errors, EDQUOT and ESTALE among them, and calls them by their number.
  const name = code.startsWith('Unknown system error')
    ? Object.entries(constants.errno).find(([, number]) => number === -errno!)?.[0]
    : code;
  if (name !== undefined && name in REASONS) return REASONS[name];
  return errno === undefined ? undefined : `the system reports ${name ?? `error ${-errno}`}`;
}

/**
 * What to throw for a failed call to the file system: a UserError that says of `what` why it failed, and `advice`; any
 * other error as it is.
 */
export function fileError(error: unknown, what: string, advice?: string): unknown {
  const reason = reasonOf(error);
  if (reason === undefined) return error;
  return new UserError(`${what}: ${reason}${advice === undefined ? '' : `; ${advice}`}`, { cause: error });
}
