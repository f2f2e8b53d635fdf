import { expect, it } from 'vitest';
import { fileError, reasonOf, UserError } from './errors.js';

const failed = (code: string, errno?: number) => Object.assign(new Error(code), { code, errno });

it('a reason is words, also where Node knows the number alone, or nobody knows the code', () => {
  expect(reasonOf(failed('ENOSPC', -28))).toBe('the disk is full');
  expect(reasonOf(failed('Unknown system error -122', -122))).toBe('the disk quota is used up');
  expect(reasonOf(failed('Unknown system error -116', -116))).toBe('the file server no longer knows it');
  expect(reasonOf(failed('ENAMETOOLONG', -36))).toBe('the name is too long');
  expect(reasonOf(failed('EMFILE', -24))).toBe('this process has too many files open (ulimit -n)');
  expect(reasonOf(failed('EBADMSG', -74))).toBe('the system reports EBADMSG');
  expect(reasonOf(failed('Unknown system error -1234', -1234))).toBe('the system reports error 1234');
  for (const other of [new Error('x'), failed('ERR_INVALID_ARG_TYPE'), new DOMException('x', 'AbortError')])
    expect(reasonOf(other)).toBeUndefined();
});

it('a failed call is told of a file; another error stays as it is', () => {
  const error = fileError(failed('EROFS', -30), 'out/metrics.jsonl', 'mend that');
  expect(error).toBeInstanceOf(UserError);
  expect((error as Error).message).toBe('out/metrics.jsonl: the file system is read-only; mend that');
  const other = new Error('x');
  expect(fileError(other, 'out')).toBe(other);
});
