import { inspect } from 'node:util';
import { asJson } from '../errors.js';

/** 1234 as 1,234. */
export function count(n: number): string {
  return n.toLocaleString('en-US');
}

/** Bytes as GiB, with one decimal. */
export function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

/** A number with its noun: 1 step, 2 steps. */
export function plural(n: number, word: string, words = `${word}s`): string {
  return `${count(n)} ${n === 1 ? word : words}`;
}

/** A value as a message shows it; of what has no JSON, what JavaScript says of it. */
export function shown(value: unknown): string {
  const text = ['string', 'object', 'boolean'].includes(typeof value) ? asJson(value) : inspect(value);
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}
