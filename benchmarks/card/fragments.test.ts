import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildCardPrograms } from '../../tests/cudasim/run.mjs';

// The comparison of fragments on the simulated card, which misreads nothing that NVIDIA documents; and that it would be
// seen if it did.

const root = join(import.meta.dirname, '../..');
const program = join(root, 'build/card/fragments');
const source = join(import.meta.dirname, 'fragments.cu');
const ptx = readFileSync(join(import.meta.dirname, 'fragments.ptx'), 'utf8');

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'tstrain-fragments-'));
  buildCardPrograms();
}, 300_000);
afterAll(() => rmSync(directory, { recursive: true }));

/** What is wrong with the fragments of this PTX, by instruction. */
function compare(text: string) {
  const file = join(directory, 'fragments.ptx');
  writeFileSync(file, text);
  const simulated = join(root, 'tests/cudasim/run.mjs');
  const { status, stdout, stderr } = spawnSync(process.execPath, [simulated, program, file, source], {
    encoding: 'utf8',
  });
  if (!stdout.startsWith('{')) throw new Error(stderr);
  return { status, wrong: JSON.parse(stdout).wrong.committed_ptx };
}

const NONE = { 'ldmatrix.x4': 0, 'ldmatrix.x4.trans': 0, 'mma.m16n8k16.bf16': 0, 'cp.async': 0 };

it('a card that does as documented is believed', () => {
  expect(compare(ptx)).toEqual({ status: 0, wrong: NONE });
}, 120_000);

describe('a card that differs is found', () => {
  it.each([
    ['ldmatrix.x4.trans', 'ldmatrix.sync.aligned.m8n8.x4.trans', 'ldmatrix.sync.aligned.m8n8.x4'],
    ['ldmatrix.x4', 'ldmatrix.sync.aligned.m8n8.x4.shared', 'ldmatrix.sync.aligned.m8n8.x4.trans.shared'],
    // The two halves of b's depth change places.
    ['mma.m16n8k16.bf16', /(mma\.sync[^;]*, \{)(%r\d+), (%r\d+)(\},)/, '$1$3, $2$4'],
    ['cp.async', /(cp\.async\.cg\.shared\.global \[%r\d+\], \[%rd\d+\], 16), %r\d+/, '$1, 16'],
  ])(
    '%s',
    (instruction, from, to) => {
      expect(ptx).toMatch(from);
      const { status, wrong } = compare(ptx.replace(from, to));
      expect(status).toBe(1);
      const { [instruction]: count, ...others } = wrong;
      expect(count).toBeGreaterThan(0);
      expect(Object.values(others)).toEqual([0, 0, 0]);
    },
    120_000,
  );
});

const nvrtc = join(root, 'build/nvrtc/12.0');
if (!existsSync(nvrtc))
  console.warn(`skipped: fragments.ptx is of its source (needs NVRTC 12.0 in ${nvrtc})`);
it.skipIf(!existsSync(nvrtc))('the PTX is what NVRTC 12.0 makes of the source', () => {
  const env = { ...process.env, TSTRAIN_CUDA_PATH: nvrtc };
  expect(execFileSync(program, ['--ptx', source], { encoding: 'utf8', env })).toBe(ptx);
});
