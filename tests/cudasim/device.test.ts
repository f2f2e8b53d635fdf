// What can go wrong around the CUDA device, on the simulated card: each is told in words, and nothing falls back in silence.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RunDirectory } from '../tiny_run.js';
import { installNvrtc } from './nvrtc.mjs';
import { buildSimulator, simulated } from './run.mjs';

const root = join(import.meta.dirname, '../..');
const directory = new RunDirectory();
const compiler = installNvrtc('12.8') && installNvrtc('12.0');

beforeAll(() => buildSimulator(), 120_000);
afterAll(() => directory.remove());

type Variables = Record<string, string>;

/** Without a card's libraries of this machine's, and with a cache of kernels of its own. */
function environment(own: Variables, nvrtc?: string | null): NodeJS.ProcessEnv {
  const { TSTRAIN_CUDA_PATH, TSTRAIN_DEVICE, ...rest } = process.env;
  return { ...rest, ...simulated(nvrtc), XDG_CACHE_HOME: directory.at('cache'), ...own };
}

/** What the code prints, or its error. `cuda` squares a vector on the card and reads it. */
function inProcess(code: string, own: Variables = {}, nvrtc?: string | null): string {
  const engine = (path: string) => JSON.stringify(pathToFileURL(join(root, 'dist/engine/device', path)).href);
  const program = `
    import { addon, setDevice } from ${engine('addon.js')};
    import { NativeTensor } from ${engine('native_tensor.js')};
    const cuda = () => {
      const x = NativeTensor.from('cuda', Float32Array.of(1, 2, 3));
      const y = NativeTensor.inArena('cuda', 'float32', [3]);
      addon.ops.unary({ y, x, op: 'square', n: 3 });
      return String(y.read());
    };
    const told = (f) => { try { return f(); } catch (error) { return error.message; } };
    ${code}`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
    env: environment(own, nvrtc),
  });
  return stdout.trim() || stderr;
}

function tstrain(args: string[], own: Variables, nvrtc?: string | null) {
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [join(root, 'dist/bin/tstrain.js'), ...args],
    {
      encoding: 'utf8',
      env: environment(own, nvrtc),
    },
  );
  return { stdout, stderr, status };
}

const square = 'console.log(told(cuda));';

describe.skipIf(!compiler)('with NVRTC', () => {
  it('kernels are compiled for the card, and kept', () => {
    expect(inProcess(square)).toBe('1,4,9');
    const kept = () =>
      readdirSync(directory.at('cache/tstrain/cuda')).filter((name) => name.startsWith('unary-sm_80'));
    expect(kept()).toHaveLength(1);
    // A file of the cache that is broken is made anew.
    const file = directory.at('cache/tstrain/cuda', kept()[0]);
    const whole = readFileSync(file);
    writeFileSync(file, whole.subarray(0, whole.length / 2));
    expect(inProcess(square)).toBe('1,4,9');
    expect(readFileSync(file).equals(whole)).toBe(true);
  });

  it('kernels reach memory of the host, which is none of the card', () => {
    const code = `
      const [x, y] = [1, 2].map(() => NativeTensor.onHost('cuda', 'float32', [3]));
      x.write(Float32Array.of(1, 2, 3));
      addon.ops.unary({ y, x, op: 'square', n: 3 });
      const { heapBytes, hostBytes } = addon.stats('cuda');
      console.log(String(y.read()), heapBytes, hostBytes);
      x.dispose();
      y.dispose();
      const planned = NativeTensor.onHost('meta:cuda', 'float32', [3]);
      console.log(addon.stats('cuda').hostBytes, addon.stats('meta:cuda').hostBytes);`;
    expect(inProcess(code)).toBe('1,4,9 0 24\n0 12');
  });

  it('whose machine code the driver refuses, the driver compiles its PTX, and that is told', () => {
    expect(tstrain(['doctor'], {}, '12.8').stdout).toContain(
      'kernels are compiled for sm_80 by NVRTC 12.8: the driver takes no machine code of that NVRTC, and compiles its PTX\n',
    );
  });

  it('that does not know the card, the committed PTX serves, and that is told', () => {
    const newer = { CUDASIM_ARCH: '120' };
    expect(inProcess(square, newer, '12.0')).toBe('1,4,9');
    expect(tstrain(['doctor'], newer, '12.0').stdout).toMatch(
      /kernels are compiled by the driver from PTX for compute_80 \(NVRTC 12\.0 \(.*\) does not know sm_120\)/,
    );
  });

  it('that is newer than the driver, the committed PTX serves where the driver takes nothing of it, and that is told', () => {
    const older = { CUDASIM_DRIVER: '12000' };
    expect(inProcess(square, older, '12.8')).toBe('1,4,9');
    expect(tstrain(['doctor'], older, '12.8').stdout).toContain(
      'NVRTC 12.8: the driver takes nothing of that NVRTC, which is newer, and compiles the PTX for compute_80\n',
    );
  });
});

describe('the driver alone', () => {
  it('is enough, and doctor says what is missing, what that costs and which package brings it', () => {
    const nothing = { TSTRAIN_CUDA_PATH: directory.at('nothing') };
    expect(inProcess(square, nothing)).toBe('1,4,9');
    const { stdout } = tstrain(['doctor'], nothing);
    expect(stdout).toMatch(
      /^CUDA {8}cudasim sm_80 \(compute capability 8\.0, 8\.0 GiB\), driver of CUDA 12\.8$/m,
    );
    for (const [subject, name] of [
      ['NVRTC', 'nvidia-cuda-nvrtc-cu12'],
      ['cuBLASLt', 'nvidia-cublas-cu12'],
    ])
      expect(stdout).toMatch(
        new RegExp(`^${subject} +not found in TSTRAIN_CUDA_PATH=.*pip install ${name}`, 'm'),
      );
    expect(stdout).toMatch(/^device {6}cuda: the best of cuda, cpu$/m);
  });

  it('with a library that does not load: the reason is told', () => {
    mkdirSync(directory.at('broken'));
    writeFileSync(directory.at('broken/libnvrtc.so.12'), 'no library');
    const broken = { TSTRAIN_CUDA_PATH: directory.at('broken') };
    expect(tstrain(['doctor'], broken).stdout).toMatch(
      /^NVRTC +does not load: .*libnvrtc\.so\.12.*: kernels are/m,
    );
    expect(inProcess(square, broken)).toBe('1,4,9');
  });

  it('with a compiler that refuses the kernels: what it says is told', () => {
    const source = directory.at('refuses.c');
    mkdirSync(directory.at('refuses'));
    // As much of NVRTC as is asked: it knows sm_80 and compiles nothing.
    writeFileSync(
      source,
      `#include <string.h>
      int nvrtcVersion(int* a, int* b) { *a = 12; *b = 9; return 0; }
      int nvrtcGetNumSupportedArchs(int* n) { *n = 1; return 0; }
      int nvrtcGetSupportedArchs(int* a) { *a = 80; return 0; }
      int nvrtcCreateProgram() { return 0; }
      int nvrtcDestroyProgram() { return 0; }
      int nvrtcAddNameExpression() { return 0; }
      int nvrtcCompileProgram() { return 6; }
      int nvrtcGetLoweredName() { return 0; }
      int nvrtcGetProgramLogSize(void* p, size_t* n) { *n = 10; return 0; }
      int nvrtcGetProgramLog(void* p, char* t) { strcpy(t, "no kernel"); return 0; }
      int nvrtcGetPTXSize() { return 0; }
      int nvrtcGetPTX() { return 0; }
      int nvrtcGetCUBINSize() { return 0; }
      int nvrtcGetCUBIN() { return 0; }`,
    );
    const library = directory.at('refuses/libnvrtc.so.12');
    expect(spawnSync('g++', ['-x', 'c', '-shared', '-fPIC', '-o', library, source]).status).toBe(0);
    expect(inProcess(square, { TSTRAIN_CUDA_PATH: directory.at('refuses') })).toBe(
      'unary: NVRTC does not compile unary.cu for sm_80: no kernel',
    );
  });
});

describe('without a card', () => {
  const config = 'model_config: {vocab_size: 512}\n';

  it.each<[string, Variables, string]>([
    ['none is there', { CUDASIM_DEVICES: '0' }, "NVIDIA's driver finds no card"],
    [
      'all are hidden',
      { CUDASIM_DEVICES: '0', CUDA_VISIBLE_DEVICES: '' },
      'NVIDIA\'s driver finds no card; CUDA_VISIBLE_DEVICES is ""',
    ],
    [
      'the driver is too old',
      { CUDASIM_DRIVER: '11040' },
      "NVIDIA's driver is of CUDA 11.4; 11.8 is the least that is supported",
    ],
    ['there is no driver', { LD_LIBRARY_PATH: '' }, "NVIDIA's driver (libcuda.so.1) is not installed"],
  ])('since %s, auto takes the CPU, and asking for cuda says why it cannot be', (_, variables, why) => {
    writeFileSync(directory.at('run.yaml'), config);
    const { stderr, status } = tstrain(
      ['--config', directory.at('run.yaml'), '--set', 'device=cuda'],
      variables,
      null,
    );
    expect(status).toBe(1);
    expect(stderr).toContain(
      `device: cuda cannot be used: ${why}; \`tstrain doctor\` tells more, and auto takes the best there is (cpu)`,
    );
    expect(inProcess("console.log(told(() => setDevice('cuda')));", variables, null)).toBe(
      `setDevice: cuda cannot be used: ${why}`,
    );
    const doctor = tstrain(['doctor'], variables, null).stdout;
    expect(doctor).toContain(`CUDA        no card can be used: ${why}\n`);
    expect(doctor).toContain('device      cpu: the only one that can be used here');
  });
});

describe('memory', () => {
  const small = { CUDASIM_MEMORY: String(64 << 20) };

  it.each(['onHeap', 'inArena'])(
    'that is not there is told, %s, and what there is can still be had',
    (where) => {
      const code = `
      console.log(told(() => NativeTensor.${where}('cuda', 'float32', [256 << 18])));
      ${square}`;
      expect(inProcess(code, small)).toMatch(
        /^(out of memory: \d+ MiB were asked for, and \d+ MiB of the card's 64 MiB are free|out of memory: the \d+ bytes reserved for the arena are used up)\n1,4,9$/,
      );
    },
  );

  it.each<[string, Variables, RegExp]>([
    [
      'before the first step',
      { CUDASIM_FAIL: 'alloc:2' },
      /^tstrain: out of memory: \d+ MiB were asked for, and \d+ MiB of the card's 8192 MiB are free$/m,
    ],
    [
      'within a step',
      { CUDASIM_MEMORY: String(40 << 20) },
      /^tstrain: gemm: out of memory: 32 MiB were asked for, and \d+ MiB of the card's 40 MiB are free$/m,
    ],
  ])('that a run lacks %s is told with its plan, and with what takes less', (_, variables, asked) => {
    // More tokens than the 128 that a card's products take at a time.
    directory.writeRows('rows.jsonl', Array(16).fill({ ids: Array(32).fill(1), prompt_len: 1 }));
    directory.writeConfig({
      data_path: directory.at('rows.jsonl'),
      output_dir: directory.at('out'),
      per_device_train_batch_size: 16,
      skip_memory_check: true,
    });
    const { stderr, status } = tstrain(
      ['--config', directory.at('run.yaml'), '--set', 'device=cuda'],
      variables,
    );
    expect(status).toBe(1);
    expect(stderr).toMatch(asked);
    expect(stderr).toMatch(
      /^tstrain: this run takes [\d.]+ MiB by its plan: workspace 32\.0 MiB, activations [\d.]+ MiB; /m,
    );
    expect(stderr).toMatch(
      /^tstrain: less is taken, in all, with per_device_train_batch_size: \d, .* MiB\); or gradient_checkpointing: true \(/m,
    );
  });

  it('of a driver without virtual memory is one piece, as large as a plan says or as half of what is free', () => {
    const own = { CUDASIM_VMM: '0' };
    const reserved = "addon.stats('cuda').arenaReserved";
    expect(inProcess(`${square} console.log(${reserved});`, { ...own, ...small })).toMatch(/^1,4,9\n\d{8}$/);
    expect(inProcess(`addon.expectArena('cuda', 1 << 20); ${square} console.log(${reserved});`, own)).toBe(
      `1,4,9\n${1 << 20}`,
    );
  });

  it('can be an allocation for each tensor, so that a tool sees where one ends', () => {
    expect(inProcess(square, { TSTRAIN_CUDA_ALLOCATIONS: 'each' })).toBe('1,4,9');
  });
});

describe('a failure on the card', () => {
  it('of a kernel is told where somebody waits, with those that ran; and by the very op when launches block', () => {
    const fails = { CUDASIM_FAIL: 'launch:1' };
    expect(inProcess(square, fails)).toMatch(
      /^the card, in one of the kernels unary.*; with CUDA_LAUNCH_BLOCKING=1 the error is told by the very kernel: waiting for it fails with CUDA_ERROR_LAUNCH_FAILED/,
    );
    expect(inProcess(square, { ...fails, CUDA_LAUNCH_BLOCKING: '1' })).toMatch(
      /^unary: the card, in one of the kernels unary[^;]*: waiting for it fails with CUDA_ERROR_LAUNCH_FAILED/,
    );
  });

  it('is told to who fetches values while JavaScript goes on', () => {
    const code = `
      const x = NativeTensor.from('cuda', Float32Array.of(1, 2, 3));
      const y = NativeTensor.inArena('cuda', 'float32', [3]);
      addon.ops.unary({ y, x, op: 'square', n: 3 });
      setImmediate(() => console.log('JavaScript goes on'));
      await y.fetch().then(String, (error) => error.message).then(console.log);`;
    expect(inProcess(code)).toBe('JavaScript goes on\n1,4,9');
    expect(inProcess(code, { CUDASIM_FAIL: 'launch:1' })).toMatch(
      /^(JavaScript goes on\n)?the card, in one of the kernels unary.*waiting for it fails with CUDA_ERROR_LAUNCH_FAILED/,
    );
  });

  it('of a CUDA graph is told with what does without them', () => {
    const code = `
      const [x, y] = [1, 2].map((value) => NativeTensor.from('cuda', Float32Array.of(value)));
      const square = () => {
        const next = addon.repeat('cuda', 'square', [x.handle, y.handle]);
        if (next !== 'nothing') addon.ops.unary({ y, x, op: 'square', n: 1 });
        if (next === 'record') addon.endRecording('cuda', true);
        return next;
      };
      console.log(told(() => [1, 2, 3].map(square).join()));`;
    expect(inProcess(code)).toBe('call,record,nothing');
    // The second launch is that of the third time.
    expect(inProcess(code, { CUDASIM_FAIL: 'graph:2' })).toMatch(
      /^launching a CUDA graph \(TSTRAIN_CUDA_GRAPHS=0 does without\) fails with CUDA_ERROR_LAUNCH_FAILED/,
    );
    expect(inProcess(code, { CUDASIM_FAIL: 'graph:2', TSTRAIN_CUDA_GRAPHS: '0' })).toBe('call,call,call');
  });

  it('of loading is told by the op', () => {
    expect(inProcess(square, { CUDASIM_FAIL: 'load:1' }, null)).toMatch(
      /^unary: loading the kernels of unary fails with/,
    );
  });

  it('that takes the card away is told', () => {
    expect(inProcess(square, { CUDASIM_FAIL: 'lost:40' })).toMatch(/ fails with CUDA_ERROR_/);
  });
});
