import { describe, expect, it } from 'vitest';
import { asJson, checkDepth, fileError, plainLine, reasonOf, UserError, visible } from './errors.js';

describe('a line for people', () => {
  it('has no control character, and stays as it is without one', () => {
    const text = 'model.safetensors: größer → "x"\ttab';
    expect(plainLine(text)).toBe(text);
    expect(plainLine('a\u001b[31mb\u0007\u009b\u007f\r\u202e')).toBe(
      'a\\u001b[31mb\\u0007\\u009b\\u007f\\u000d\\u202e',
    );
    expect(plainLine('one\n  two')).toBe('one two');
    expect(new UserError('key \u001b[2J').message).toBe('key \\u001b[2J');
  });

  it('comes of each fault, of as many as a message may have', () => {
    const { message, faults } = new UserError(['a', 'b\n c']);
    expect(message).toBe('a\nb c');
    expect(faults).toEqual(['a', 'b c']);
    const many = new UserError(Array.from({ length: 50 }, (_, i) => `${i} ${'x'.repeat(97)}`));
    expect(many.faults).toHaveLength(20);
    expect(Buffer.byteLength(many.message)).toBeLessThanOrEqual(2000);
    expect(many.faults.at(-1)).toBe('and 31 more');
  });

  it('has at most 2000 bytes, its ends kept and characters whole', () => {
    for (const filler of ['x', 'é', '😀', '\u001b']) {
      const line = plainLine(`file: ${filler.repeat(5_000_000)}; do this`);
      expect(Buffer.byteLength(line)).toBeLessThanOrEqual(2000);
      expect(line).toMatch(/^file: .* … .*; do this$/);
      expect(line).not.toContain('\ufffd');
    }
    expect(plainLine('x'.repeat(2000))).toBe('x'.repeat(2000));
    expect(plainLine('é'.repeat(1500))).toContain(' … ');
  });
});

it('visible text is the same JSON, and keeps its lines', () => {
  const value = { text: 'a\u001b[31m\u009b\u007f\u2028b\nc' };
  expect(visible(JSON.stringify(value))).not.toMatch(/[^\P{Cc}\n\t]|\u2028/u);
  expect(JSON.parse(visible(JSON.stringify(value)))).toEqual(value);
  expect(visible('a\n\tb')).toBe('a\n\tb');
});

describe('values that JSON cannot say', () => {
  const circular: unknown[] = [];
  circular.push(circular);
  let deep: unknown = [];
  for (let i = 0; i < 100_000; i++) deep = [deep];

  it('are shown all the same, and refused in words', () => {
    expect(asJson({ a: 1 })).toBe('{"a":1}');
    expect(asJson(undefined)).toBe('undefined');
    expect(asJson(circular)).toContain('Circular');
    expect(asJson(deep)).toBe('[ [ [Array] ] ]');
    expect(() => checkDepth(deep, 'a.json')).toThrow(new UserError('a.json: is nested too deeply'));
    expect(() => checkDepth(circular, 'a.yaml')).toThrow('a.yaml: holds itself');
    checkDepth({ a: [1] }, 'a.json');
  });
});

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
