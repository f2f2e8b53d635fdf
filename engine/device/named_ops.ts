import type { Ops } from './ops.js';

/** Kind, name and whether it may be left out, of a parameter of an op in native/ops.h. */
export type Parameter = readonly [kind: string, name: string, optional: boolean];

/** An op as native/napi/addon.cpp binds it: arguments in the order of its entry, tensors by handle (0 = left out). */
export type PositionalOp = (...args: unknown[]) => void;

/** The op table as the addon exports and describes it. */
export interface OpTable {
  ops: Record<keyof Ops, PositionalOp>;
  parameters: Record<keyof Ops, readonly Parameter[]>;
  /** The words of each kind of choice, in the order of their codes. */
  choices: Record<string, readonly string[]>;
}

/** The ops as ops.d.ts declares them: each takes one object with its arguments by name. */
export function namedOps(table: OpTable): Ops {
  const names = Object.keys(table.ops) as (keyof Ops)[];
  return Object.fromEntries(names.map((name) => [name, namedOp(name, table)])) as unknown as Ops;
}

/**
 * A function written out for the op's own names: a loop over them takes one to two microseconds a call, as long as the
 * call of a small op itself; this one a tenth of that. What is no number, flag or handle is refused natively.
 */
function namedOp(op: keyof Ops, { ops, parameters, choices }: OpTable): (args: object) => void {
  const list = parameters[op];
  const values = list.map(([kind, name, optional]) => {
    if (kind === 'Out' || kind === 'In')
      return optional ? `args.${name} === undefined ? 0 : args.${name}.handle` : `args.${name}?.handle ?? 0`;
    return kind in choices ? `codes.${kind}[args.${name}]` : `args.${name}`;
  });
  const counted = list.map(([, name, optional]) => (optional ? `(args.${name} === undefined ? 0 : 1)` : '1'));
  const body = `return (args) => {
    let given = 0;
    for (const _ in args) given++;
    if (given !== ${counted.join(' + ')}) check(args);
    native(${values.join(', ')});
  };`;
  const codes = Object.fromEntries(
    Object.entries(choices).map(([kind, words]) => [
      kind,
      Object.fromEntries(words.map((w, code) => [w, code])),
    ]),
  );
  const check = (args: object) => checkNames(op, list, args);
  return new Function('native', 'codes', 'check', body)(ops[op], codes, check);
}

/** Throws an Error if an argument of the op is missing or unknown. */
function checkNames(op: string, list: readonly Parameter[], args: object): void {
  const given = args as Record<string, unknown>;
  for (const [, name, optional] of list)
    if (!optional && given[name] === undefined) throw new Error(`${op}: ${name} is missing`);
  for (const name in given)
    if (!list.some(([, known]) => known === name))
      throw new Error(`${op}: no argument is called ${name}; there are ${list.map(([, n]) => n).join(', ')}`);
}
