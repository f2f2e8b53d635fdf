import { kernelFile, type ReadFile } from './cgroup.js';

export interface Processor {
  name: string;
  /** By the processor's own numbers: a virtual machine may say no more than the maker's name. */
  family?: number;
  model?: number;
  /** Those of avx2, avx512f, avx512_bf16 and amx_bf16 that it has: what matters to matrix products. */
  features: string[];
}

/** What Linux says of the processor of this machine. */
export function processor(read: ReadFile = kernelFile): Processor {
  const cpuinfo = read('/proc/cpuinfo') ?? '';
  const field = (name: string) => new RegExp(`^${name}\\s*:\\s*(.+)$`, 'm').exec(cpuinfo)?.[1].trim();
  const number = (name: string) => {
    const text = field(name);
    return text === undefined ? undefined : Number(text);
  };
  const flags = new Set(field('flags')?.split(' '));
  return {
    name: field('model name') ?? 'unknown',
    family: number('cpu family'),
    model: number('model'),
    features: ['avx2', 'avx512f', 'avx512_bf16', 'amx_bf16'].filter((flag) => flags.has(flag)),
  };
}
