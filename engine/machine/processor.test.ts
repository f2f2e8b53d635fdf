import { expect, it } from 'vitest';
import { processor } from './processor.js';

it('reads what matters of /proc/cpuinfo, of the first processor', () => {
  const cpuinfo =
    'processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\n' +
    'model name\t: Chip 9000\nflags\t\t: fpu avx avx2 amx_bf16 avx512f\n\nprocessor\t: 1\nmodel name\t: other\n';
  expect(processor(() => cpuinfo)).toEqual({
    name: 'Chip 9000',
    family: 6,
    model: 143,
    features: ['avx2', 'avx512f', 'amx_bf16'],
  });
  expect(processor(() => undefined)).toMatchObject({ name: 'unknown', features: [] });
});
