import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { committed, compiled, kernelFiles, toCommit } from '../../../scripts/ptx.mjs';

// What the real compiler makes of the kernels, which needs no card: NVRTC 12.0 up to Hopper, 12.8 from Blackwell on.

/** The most that a multiprocessor holds at a time (CUDA C++ Programming Guide, technical specifications). */
const ARCHITECTURES = [
  { name: 'sm_80', nvrtc: '12.0', warps: 64, blocks: 32, shared: 164 },
  { name: 'sm_86', nvrtc: '12.0', warps: 48, blocks: 16, shared: 100 },
  { name: 'sm_89', nvrtc: '12.0', warps: 48, blocks: 24, shared: 100 },
  { name: 'sm_90a', nvrtc: '12.0', warps: 64, blocks: 32, shared: 228 },
  { name: 'sm_100', nvrtc: '12.8', warps: 64, blocks: 32, shared: 228 },
  { name: 'sm_120', nvrtc: '12.8', warps: 48, blocks: 24, shared: 100 },
];
type Architecture = (typeof ARCHITECTURES)[number];

interface Figures {
  kernel: string;
  threads: number;
  registers: number;
  shared: number;
}

const OPTIONS = ['-v', '--warn-on-spills', '-Werror'].map((option) => `--ptxas-options=${option}`);

/** Of each kernel of a file; undefined where there is no NVRTC. */
function figuresOf(file: string, { name, nvrtc }: Architecture): Figures[] | undefined {
  const made = compiled(file, nvrtc, name, OPTIONS);
  if (!made) return undefined;
  const kernels = [...made.ptx.matchAll(/^\/\/kernel (\S+) (\S+)$/gm)];
  return kernels.map(([, kernel, symbol]) => {
    const bounds = made.ptx.match(new RegExp(`\\.entry ${symbol}\\([^)]*\\)\\s*\\.maxntid (\\d+)`));
    const said = made.log.split(`Compiling entry function '${symbol}'`)[1]?.split('Compiling entry')[0];
    if (!bounds) throw new Error(`${kernel} has no __launch_bounds__`);
    if (!said) throw new Error(`the compiler says nothing of ${kernel}`);
    expect(said, kernel).toContain('0 bytes spill stores, 0 bytes spill loads');
    return {
      kernel,
      threads: Number(bounds[1]),
      registers: Number(said.match(/Used (\d+) registers/)![1]),
      shared: Number(said.match(/(\d+) bytes smem/)?.[1] ?? 0),
    };
  });
}

/**
 * Per cent of the warps that a multiprocessor can hold, with as many threads a block as the kernel may have: 64 Ki
 * registers, given out to warps by 8 a thread; shared memory with 1 KiB a block of the driver's.
 */
function occupancy({ threads, registers, shared }: Figures, limits: Architecture): number {
  const warps = Math.ceil(threads / 32);
  const byRegisters = Math.floor(65536 / (Math.ceil(registers / 8) * 8 * 32) / warps);
  const byShared = Math.floor((limits.shared * 1024) / (shared + 1024));
  const blocks = Math.min(limits.blocks, Math.floor(limits.warps / warps), byRegisters, byShared);
  return Math.round((100 * blocks * warps) / limits.warps);
}

describe('the kernels', () => {
  // Every file for 6 architectures; what has been compiled is kept in build/ptx.
  it('compile for every architecture without spills, with the registers that registers.txt says', {
    timeout: 600_000,
  }, async ({ skip }) => {
    const rows = new Map<string, string[]>();
    for (const architecture of ARCHITECTURES)
      for (const file of kernelFiles()) {
        const figures = figuresOf(file, architecture);
        if (!figures) return skip(`NVRTC ${architecture.nvrtc} cannot be had: NOT COMPILED`);
        for (const of of figures) {
          const row = rows.get(of.kernel) ?? [of.kernel.padEnd(36), String(of.threads).padStart(7)];
          const cell = `${of.registers} ${of.shared} ${occupancy(of, architecture)}%`;
          rows.set(of.kernel, [...row, cell.padStart(15)]);
        }
      }
    const table = [
      'Made by compile.test.ts (`npx vitest run engine/native/cuda/compile.test.ts -u`): of each kernel the most threads a',
      'block has, and for each architecture registers, bytes of static shared memory, and occupancy with that many threads.',
      '',
      `${'kernel'.padEnd(36)}threads${ARCHITECTURES.map(({ name }) => name.padStart(15)).join('')}`,
      ...[...rows.values()].map((row) => row.join('')),
      '',
    ].join('\n');
    console.log(table);
    await expect(table).toMatchFileSnapshot(join(import.meta.dirname, 'registers.txt'));
  });

  it('have the PTX committed that their sources make (node scripts/ptx.mjs)', {
    timeout: 600_000,
  }, ({ skip }) => {
    for (const file of kernelFiles()) {
      const ptx = toCommit(file);
      if (ptx === undefined) return skip('NVRTC 12.0 cannot be had: NOT COMPARED');
      expect(committed(file) === ptx, `ptx/${file}.ptx is what ${file}.cu makes`).toBe(true);
    }
  });
});
