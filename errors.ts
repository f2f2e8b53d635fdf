/**
 * An error the user can mend: its message names the file, the key or the tensor, says what was expected and
 * what to do. The command line prints the message alone, without a stack trace.
 */
export class UserError extends Error {
  override name = 'UserError';
}

const REASONS: Record<string, string> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'the file would be larger than this process may write',
  EROFS: 'the file system is read-only',
  EACCES: 'permission is denied',
  EPERM: 'permission is denied',
  EEXIST: 'something else of this name is there',
  ENOTDIR: 'a part of the path is not a directory',
  EISDIR: 'it is a directory',
  ENOENT: 'it is not there, and cannot be made',
  EIO: 'the disk reports an error',
};

/**
 * What to throw for a failed call to the file system: a UserError that says of `what` why it failed, and `advice`; any
 * other error as it is.
 */
export function fileError(error: unknown, what: string, advice: string): unknown {
  const reason = REASONS[(error as NodeJS.ErrnoException).code ?? ''];
  return reason === undefined ? error : new UserError(`${what}: ${reason}; ${advice}`);
}
