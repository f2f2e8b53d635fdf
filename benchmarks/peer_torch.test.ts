import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { peerPython } from '../tests/hf_logits.js';
import { cardWorkload, TINY_CELLS } from './card/card_cells.js';
import { curves } from './card/curves.js';
import { sources } from './paths.js';

const directory = mkdtempSync(join(tmpdir(), 'tstrain-peer-'));
afterAll(() => rmSync(directory, { recursive: true }));
const file = join(directory, 'workload.json');

function peer(words: string[], input = '') {
  writeFileSync(file, JSON.stringify(cardWorkload(TINY_CELLS[0], 2)));
  const args = [join(sources, 'peer_torch.py'), file, ...words];
  return spawnSync(peerPython!, args, { encoding: 'utf8', input });
}

describe.skipIf(!peerPython)('PyTorch (TSTRAIN_PEER_PYTHON)', () => {
  it('adds up the micro-batches of a step', () => {
    const [ready, round] = peer(['fp32', '1'], '\n')
      .stdout.trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(ready).toMatchObject({ parameters: 260_032, threads: 1 });
    const workload = cardWorkload(TINY_CELLS[0], 2);
    // One step warms up; the round has the next two.
    const tokens = workload.steps
      .slice(1, 3)
      .flat()
      .reduce((sum, { ids }) => sum + ids.length, 0);
    expect(round).toMatchObject({ tokens, device_mib: null });
    expect(round.tok_s).toBeGreaterThan(0);
  });

  it('says that there is no card', () => {
    const { status, stderr } = peer(['bf16', '1', '--device', 'cuda']);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^PyTorch \S+ has no card here\n$/);
  });

  it('learns from the same weights and rows what we learn', async () => {
    const { ours, torch_fp32, ours_from_fp32, torch_bf16_from_fp32 } = await curves({
      device: 'cpu',
      shape: '260k',
      steps: 12,
      rowsPerStep: 4,
      length: 64,
      python: peerPython!,
      directory,
      precision: 'fp32',
    });
    expect(ours).toHaveLength(12);
    // From ln 512 down.
    expect(torch_fp32[0]).toBeGreaterThan(6);
    expect(torch_fp32.at(-1)).toBeLessThan(torch_fp32[0] - 0.05);
    // float32 on both sides: sums in another order, which 12 steps have not amplified yet.
    expect(ours_from_fp32).toBeLessThan(1e-4);
    expect(torch_bf16_from_fp32).toBeGreaterThan(ours_from_fp32);
  }, 300_000);
});
