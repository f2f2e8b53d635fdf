import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildSimulator, simulated } from '../../tests/cudasim/run.mjs';
import { root } from '../paths.js';
import { pythonWithCard } from '../peer_python.js';
import { PARTS } from './questions.js';

const directory = mkdtempSync(join(tmpdir(), 'tstrain-speed-'));
beforeAll(() => buildSimulator(), 120_000);
afterAll(() => rmSync(directory, { recursive: true }));

function bench(options: string[], env: NodeJS.ProcessEnv) {
  const words = [join(root, 'dist/benchmarks/bench.js'), '--device', 'cuda', ...options];
  return spawnSync(process.execPath, words, { encoding: 'utf8', env: { ...process.env, ...env } });
}

it('says in one line that there is no card', () => {
  const { stdout, stderr, status } = bench([], { ...simulated(null), CUDASIM_DEVICES: '0' });
  expect({ stdout, stderr, status }).toEqual({
    stdout: '',
    stderr: "bench: --device cuda: there is no card: NVIDIA's driver finds no card\n",
    status: 1,
  });
});

it('measures on the simulated card, and says what it left out', () => {
  const out = join(directory, 'out.json');
  const sizes = ['--tiny', '--rounds', '2', '--steps', '1', '--out', out];
  const { stdout, stderr } = bench(
    [...sizes, '--peer-python', join(directory, 'no-python')],
    simulated(null),
  );
  expect(stdout).toContain('cudasim sm_80, no peak is known of it, so no MFU\n');
  expect(stdout).toMatch(/^260k\/bf16\/alpaca +\d+ +– +– +– /m);
  expect(stdout).toContain('260k/bf16/alpaca  arena = plan: met\n');
  expect(stderr).toMatch(/^bench: no peer: .*no-python: spawnSync .* ENOENT$/m);
  const [cell] = JSON.parse(readFileSync(out, 'utf8')).cells;
  expect(cell.ours.rounds).toHaveLength(2);
  expect(cell.ours.rounds[0]).toMatchObject({ tokens: expect.any(Number), device_mib: expect.any(Number) });
}, 300_000);

it('leaves out what does not fit by its plan, and what there is no time for', () => {
  const small = bench(['--tiny', '--no-peer'], { ...simulated(null), CUDASIM_MEMORY: String(32 << 20) });
  expect(small.stdout).toMatch(
    /was not measured: its plan takes 0\.0 GiB, and 0\.0 GiB of the card are free$/m,
  );
  const late = bench(['--tiny', '--no-peer', '--seconds', '1'], simulated(null));
  expect(late.stdout).toMatch(/was not measured: no time was left$/m);
}, 120_000);

it.skipIf('python' in pythonWithCard('python3'))(
  'card.sh leaves the curves out where PyTorch has no card',
  async () => {
    const asking = { seconds: 60, scratch: directory, simulated: true };
    const answer = await PARTS.b.find(({ name }) => name === 'curves against PyTorch')!.ask(asking);
    expect(answer).toEqual({ leftOut: expect.stringMatching(/^no PyTorch: python3: /) });
  },
  120_000,
);
