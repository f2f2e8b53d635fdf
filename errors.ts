import { constants } from 'node:os';

/**
 * An error the user can mend: its message names the file, the key or the tensor, says what was expected and
 * what to do. The command line prints the message alone, without a stack trace.
 */
export class UserError extends Error {
  override name = 'UserError';
  /** What is wrong; where there are several, the message has a line of each. */
  readonly faults: readonly string[];

  constructor(faults: string | readonly string[], options?: ErrorOptions) {
    const all = typeof faults === 'string' ? [faults] : faults;
    super(all.join('\n'), options);
    this.faults = all;
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
