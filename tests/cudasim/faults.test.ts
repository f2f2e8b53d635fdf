// Each kind of fault, planted, is found, in every order of threads; and the same without the fault is not.
import { spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { installNvrtc } from './nvrtc.mjs';

const here = import.meta.dirname;
const out = resolve(here, '../../build/cudasim');

interface Found {
  name: string;
  seed: number;
  error: number;
  right: boolean;
  said: string;
}

const [INVALID_VALUE, ILLEGAL_ADDRESS, LAUNCH_TIMEOUT, MISALIGNED, LAUNCH_FAILED] = [1, 700, 702, 716, 719];

/** What the simulator must make of a test of faults.cpp. */
interface Expected {
  error?: number;
  /** On stderr. */
  said?: RegExp;
  /** Whether the numbers are right; told where no error is. */
  right?: boolean;
}
const fine: Expected = { error: 0, right: true };
const wrongNumbers: Expected = { error: 0, right: false };

const faults: Record<string, Expected> = {
  add_one: fine,
  reversed: fine,
  missing_barrier: {
    error: LAUNCH_FAILED,
    said: /missing_barrier::s, which (nobody has written|thread \d+ .*a race)/,
  },
  missing_second_barrier: {
    error: LAUNCH_FAILED,
    said: /thread \d+ (read|wrote) with no barrier between: a race/,
  },
  missing_warp_barrier: { error: LAUNCH_FAILED, said: /which (nobody has written|thread \d+ .*a race)/ },
  store_past_end: {
    error: ILLEGAL_ADDRESS,
    said: /writes 4 bytes at .* 0 bytes past the end of the 4000 bytes of cuMemAlloc/,
  },
  load_past_end: {
    error: ILLEGAL_ADDRESS,
    said: /reads 4 bytes at .* 0 bytes past the end of the 4000 bytes/,
  },
  load_before_start: { error: ILLEGAL_ADDRESS, said: /reads 4 bytes at .* 4 bytes before the 4000 bytes/ },
  shared_past_end: {
    error: ILLEGAL_ADDRESS,
    said: /byte 400 of the 400 of shared_past_end::s: out of bounds/,
  },
  dynamic_shared_past_end: { error: ILLEGAL_ADDRESS, said: /of the 1000 dynamic ones: out of bounds/ },
  unwritten_shared: {
    error: LAUNCH_FAILED,
    said: /byte 308 of the 1024 of unwritten_shared::s, which nobody has written/,
  },
  local_past_end: { error: ILLEGAL_ADDRESS, said: /local memory: out of bounds/ },
  misaligned_vector: {
    error: MISALIGNED,
    said: /ld\.global\.v4.*not a multiple of 16: a misaligned address/,
  },
  race_between_blocks: { error: LAUNCH_FAILED, said: /thread \d+ of another block wrote .*a race/ },
  reads_another_block: { error: LAUNCH_FAILED, said: /of another block (read|wrote) .*a race/ },
  parted_barriers: {
    error: LAUNCH_FAILED,
    said: /waits at another \(PTX line \d+: bar.sync 0;\): the block's threads have parted/,
  },
  lanes_stay_away: {
    error: LAUNCH_TIMEOUT,
    said: /waits for the lanes of its mask 0xffffffff, and they never all come/,
  },
  lanes_have_ended: { error: LAUNCH_FAILED, said: /has lanes 0x20 that have ended|never all come/ },
  part_of_a_warp: { error: LAUNCH_FAILED, said: /has lanes that its block has no threads for/ },
  half_a_warp: { error: LAUNCH_FAILED, said: /reads lane \d+, which is not in its mask 0xffff/ },
  copy_not_awaited: {
    error: LAUNCH_FAILED,
    said: /a cp\.async of thread \d+ is under way: a wait is missing|nobody has written/,
  },
  copy_over_what_is_read: { error: LAUNCH_FAILED, said: /a race|under way/ },
  right_fragment: fine,
  wrong_fragment: wrongNumbers,
  wait_between_streams: fine,
  missing_wait_between_streams: wrongNumbers,
  staging_awaited: fine,
  staging_reused_early: wrongNumbers,
  read_back_awaited: fine,
  read_back_early: wrongNumbers,
  stale_pointer: { error: ILLEGAL_ADDRESS, said: /bytes into the 4000 bytes of freed memory/ },
  freed_twice: { error: INVALID_VALUE, said: /cuMemFree: .* freed memory/ },
  host_freed_early: { error: ILLEGAL_ADDRESS, said: /was freed before the copy ran/ },
  arena: fine,
  arena_past_its_memory: { error: ILLEGAL_ADDRESS, said: /reserved addresses, with no memory behind them/ },
  shared_not_allowed: { error: INVALID_VALUE, said: /more shared memory than cuFuncSetAttribute allowed it/ },
  more_shared_than_there_is: { error: INVALID_VALUE },
  shared_allowed: fine,
  unwritten_global: wrongNumbers,
  too_many_threads: { error: INVALID_VALUE, said: /a block has 1 to 1024 threads/ },
  leak: { error: 0, said: /never freed: 4000 bytes of cuMemAlloc/ },
};

const make = spawnSync('make', ['-s', '-C', here, 'checks'], { encoding: 'utf8' });
const nvrtc = installNvrtc('12.0');
const library = join(nvrtc ?? '', 'nvidia/cuda_nvrtc/lib/libnvrtc.so.12');

/** Runs tests of faults.cpp with these seeds. */
function plant(seeds: number[], env: Record<string, string> = {}, ...names: string[]): Found[] {
  const { stdout, status, stderr } = spawnSync(join(out, 'faults'), [...seeds.map(String), '-', ...names], {
    encoding: 'utf8',
    env: { ...process.env, CUDASIM_NVRTC: library, CUDASIM_LEAKS: '1', ...env },
  });
  if (status !== 0) throw new Error(`${stdout}${stderr}`);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

test('cudasim builds', () => {
  expect(make.stderr).toBe('');
  expect(make.status).toBe(0);
}, 120_000);

describe.skipIf(nvrtc === undefined)('planted faults (without NVRTC they are not planted)', () => {
  test('each is found in five orders of threads, and told by name', () => {
    const found = plant([1, 2, 3, 4, 5], {}, ...Object.keys(faults));
    expect(found).toHaveLength(5 * Object.keys(faults).length);
    for (const { name, seed, error, right, said } of found) {
      const expected = faults[name]!;
      const shown = `${name}, seed ${seed}: ${said}`;
      if (name === 'lanes_have_ended') expect([LAUNCH_FAILED, LAUNCH_TIMEOUT], shown).toContain(error);
      else expect(error, shown).toBe(expected.error);
      if (expected.right !== undefined) expect(right, shown).toBe(expected.right);
      if (expected.said) expect(said, shown).toMatch(expected.said);
      // What is in order says nothing.
      if (expected === fine) expect(said, shown).toBe('');
    }
  }, 300_000);

  test('fmaxf swallows one poison, which is NaN, and not the other', () => {
    const right = (name: string, CUDASIM_POISON: string) => plant([1], { CUDASIM_POISON }, name)[0]!.right;
    expect(right('unwritten_global', '0xff')).toBe(false);
    expect(right('unwritten_global', '0x7f')).toBe(false);
    expect(right('unwritten_global_largest', '0xff')).toBe(true);
    expect(right('unwritten_global_largest', '0x7f')).toBe(false);
  }, 60_000);

  test('without checks what is in order runs as well', () => {
    const names = ['add_one', 'reversed', 'right_fragment'];
    for (const { name, error, right, said } of plant([1], { CUDASIM_CHECK: '0' }, ...names))
      expect([name, error, right, said]).toEqual([name, 0, true, '']);
  }, 60_000);

  test('old drivers, other cards, none', () => {
    const said = (env: Record<string, string>) => plant([1], env, 'reversed')[0]!.said;
    expect(said({ CUDASIM_DRIVER: '11080' })).toMatch(/cuModuleLoadData.*CUDA_ERROR_UNSUPPORTED_PTX_VERSION/);
    expect(said({ CUDASIM_DRIVER: '12000', CUDASIM_ARCH: '120' })).toBe('');
    expect(said({ CUDASIM_FOR: 'compute_90' })).toMatch(/cuModuleLoadData.*CUDA_ERROR_INVALID_PTX/);
    expect(said({ CUDASIM_DEVICES: '0' })).toMatch(/cuInit.*CUDA_ERROR_NO_DEVICE/);
    expect(plant([1], { CUDASIM_VMM: '0' }, 'arena')[0]!.said).toMatch(/CUDA_ERROR_NOT_SUPPORTED/);
    expect(plant([1], { CUDASIM_MEMORY: '8000' }, 'reversed')[0]!.said).toMatch(/CUDA_ERROR_OUT_OF_MEMORY/);
  }, 60_000);

  test('faults on request', () => {
    const failing = (CUDASIM_FAIL: string) => plant([1], { CUDASIM_FAIL }, 'reversed')[0]!;
    // Its tenth call is the wait.
    expect(failing('lost:9')).toMatchObject({ error: 999, said: expect.stringMatching(/the card is lost/) });
    expect(failing('launch:1')).toMatchObject({
      error: LAUNCH_FAILED,
      said: expect.stringMatching(/the launch of reversed fails/),
    });
    expect(failing('alloc:2').said).toMatch(/cuMemAlloc_v2.*CUDA_ERROR_OUT_OF_MEMORY/);
    expect(failing('load:1').said).toMatch(/cuModuleLoadData.*CUDA_ERROR_INVALID_PTX/);
    expect(failing('launch:2')).toMatchObject({ error: 0, said: '' });
  }, 60_000);
});
