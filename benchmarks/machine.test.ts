import { expect, it } from 'vitest';
import { machineSlug } from './machine.js';

it('makes a file name of a processor', () => {
  const of = (processor: string, features: string[], cores: number) =>
    machineSlug({ processor, family: 6, model: 143, cores, features, memory_mib: 0 });
  expect(of('Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz', ['avx2', 'amx_bf16'], 2)).toBe(
    'intel-xeon-platinum-8488c-amx-bf16-2-cores',
  );
  expect(of('AMD EPYC 7B13 64-Core Processor', ['avx2'], 1)).toBe('amd-epyc-7b13-64-core-avx2-1-cores');
});
