/**
 * The text of engine/device/ops.d.ts: the op table, storage types and choices as the built addon describes them
 * (engine/native/ops.h), in TypeScript.
 */
export function opTypes({ parameters, choices, dtypes }) {
  const kinds = { In: 'Tensor', Out: 'Tensor', i64: 'number', f64: 'number', bool: 'boolean', Four: 'Four' };
  const union = (words) => words.map((word) => `'${word}'`).join(' | ');
  const type = (kind) => {
    if (kinds[kind] === undefined && choices[kind] === undefined)
      throw new Error(`scripts/op_types.mjs has no TypeScript type for a parameter of the kind ${kind}`);
    return kinds[kind] ?? kind;
  };
  const op = ([name, list]) => [
    `  /** ${name}(${list.map(([kind, argument, optional]) => `${kind} ${argument}${optional ? '?' : ''}`).join(', ')}) */`,
    `  ${name}(args: {`,
    ...list.map(([kind, argument, optional]) =>
      optional ? `    ${argument}?: ${type(kind)} | undefined;` : `    ${argument}: ${type(kind)};`,
    ),
    '  }): void;',
  ];
  return [
    '// Made by scripts/build.mjs from the op table, engine/native/ops.h, which says what each op does.',
    '',
    '/** Memory of a device: a NativeTensor. */',
    'export interface Tensor {',
    '  readonly handle: number;',
    '}',
    '',
    '/** Storage types. */',
    `export type DType = ${union(Object.keys(dtypes))};`,
    '',
    '/** The sizes of four axes, or a stride in elements along each. */',
    'export type Four = readonly [number, number, number, number];',
    '',
    ...Object.entries(choices).map(([name, words]) => `export type ${name} = ${union(words)};`),
    '',
    '/** The op table: In tensors are read, Out tensors written, and those marked ? may be left out. */',
    'export interface Ops {',
    ...Object.entries(parameters).flatMap(op),
    '}',
    '',
  ].join('\n');
}
