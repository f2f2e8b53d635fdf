// PTX instructions, and what NVRTC makes of C++, give what plain computation gives.
import { spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { installNvrtc } from './nvrtc.mjs';
import { buildSimulator } from './run.mjs';

const here = import.meta.dirname;
const program = resolve(here, '../../build/cudasim/opcodes');

buildSimulator('checks');

function run(nvrtc: string, env: Record<string, string>) {
  const library = join(nvrtc, 'nvidia/cuda_nvrtc/lib/libnvrtc.so.12');
  return spawnSync(program, { encoding: 'utf8', env: { ...process.env, CUDASIM_NVRTC: library, ...env } });
}

describe.each([
  ['12.0', 'compute_80', '80'],
  ['12.8', 'sm_86', '86'],
  ['12.8', 'sm_90a', '90'],
  ['12.8', 'sm_120', '120'],
])('PTX of NVRTC %s for %s', (version, architecture, card) => {
  const nvrtc = installNvrtc(version);

  test.skipIf(nvrtc === undefined)(
    'computes what it should',
    () => {
      const runs: Record<string, string>[] = [
        { CUDASIM_SEED: '1' },
        { CUDASIM_SEED: '2', CUDASIM_CHECK: '0' },
      ];
      for (const more of runs) {
        const { stdout, stderr, status } = run(nvrtc!, {
          CUDASIM_FOR: architecture,
          CUDASIM_ARCH: card,
          ...more,
        });
        expect(`${stdout}${stderr}`).toBe('0 differences\n');
        expect(status).toBe(0);
      }
    },
    120_000,
  );
});

describe.skipIf(installNvrtc('12.0') === undefined)('an instruction that is not known', () => {
  test('ends the process by name', () => {
    const nvrtc = installNvrtc('12.0')!;
    const { stderr, signal } = run(nvrtc, { CUDASIM_SOURCE: 'unknown.cu' });
    expect(stderr).toMatch(/cudasim: kernel unknown: PTX line \d+: cannot translate tanh\.approx\.bf16 /);
    expect(signal).toBe('SIGABRT');
  }, 60_000);
});
