import { expect, it } from 'vitest';
import { machineSlug } from './machine.js';

it('makes a file name of a processor', () => {
  const of = (processor: string, cores: number) =>
    machineSlug({ processor, cores, features: [], memory_mib: 0 });
  expect(of('Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz', 2)).toBe('intel-xeon-platinum-8488c-2-cores');
  expect(of('AMD EPYC 7B13 64-Core Processor', 1)).toBe('amd-epyc-7b13-64-core-1-cores');
});
