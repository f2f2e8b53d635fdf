import { expect, it } from 'vitest';
import { opTypes } from './op_types.mjs';

const addon = {
  dtypes: { float32: { code: 0, bytes: 4 }, uint8: { code: 1, bytes: 1 } },
  choices: { Binary: ['add', 'subtract'] },
};

it('gives each argument the type of its kind, and lets those be left out that may be', () => {
  const parameters = {
    f: [
      ['Out', 'y', false],
      ['In', 'z', true],
      ['Binary', 'op', false],
      ['Four', 'shape', false],
      ['i64', 'n', false],
      ['f64', 'scale', false],
      ['bool', 'flag', false],
    ],
  };
  const text = opTypes({ ...addon, parameters });
  expect(text).toContain("export type DType = 'float32' | 'uint8';");
  expect(text).toContain("export type Binary = 'add' | 'subtract';");
  expect(text).toContain(`
  /** f(Out y, In z?, Binary op, Four shape, i64 n, f64 scale, bool flag) */
  f(args: {
    y: Tensor;
    z?: Tensor | undefined;
    op: Binary;
    shape: Four;
    n: number;
    scale: number;
    flag: boolean;
  }): void;
`);
});

it('refuses a kind it has no type for', () => {
  const call = () => opTypes({ ...addon, parameters: { f: [['Five', 'shape', false]] } });
  expect(call).toThrow('scripts/op_types.mjs has no TypeScript type for a parameter of the kind Five');
});
