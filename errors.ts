/**
 * An error the user can mend: its message names the file, the key or the tensor, says what was expected and
 * what to do. The command line prints the message alone, without a stack trace.
 */
export class UserError extends Error {
  override name = 'UserError';
}
