import { afterEach, describe, expect, it, vi } from 'vitest';
import { addon, defaultDevice } from '../../engine/device/addon.js';
import { type Diagnosis, describe as describeMachine } from './doctor.js';

const GiB = 2 ** 30;
const noProducts = { products: 0, declined: 0, firstDeclined: '', tried: 0, seconds: 0, untried: 0 };
const machine: Diagnosis = {
  tstrain: '1.2.3',
  node: '22.1.0',
  platform: 'linux x64',
  processor: {
    name: 'Chip 9000',
    family: 6,
    model: 143,
    features: ['avx2', 'avx512f', 'amx_bf16'],
    cores: { logical: 8, physical: 4, quota: 2.5, usable: 2 },
  },
  addon: { instruction_set: 'avx512', bf16_gemm: 'amx', onednn: '3.4.1' },
  threads: { count: 2, from: 'physical cores' },
  memory: { total: 6 * GiB, available: 5.5 * GiB, limited: true },
  disk: { directory: '/runs', free: 100 * GiB },
  cuda: {
    missing: "NVIDIA's driver (libcuda.so.1) is not installed",
    driver: '',
    driverVersion: '',
    card: '',
    computeCapability: '',
    memory: 0,
    kernels: '',
    nvrtc: { missing: 'not found', path: '', version: '' },
    cublaslt: { missing: '', path: '', version: '', ...noProducts },
  },
  devices: ['cpu'],
  device: 'cpu',
};

afterEach(() => {
  vi.unstubAllEnvs();
  process.exitCode = undefined;
});

describe('the lines of tstrain doctor', () => {
  it('tell what is there, what is used and why', () => {
    vi.stubEnv('TSTRAIN_ISA', '');
    expect(describeMachine(machine)).toEqual([
      'tstrain     1.2.3 on Node 22.1.0, linux x64',
      'processor   Chip 9000 (avx2, avx512f, amx_bf16)',
      'kernels     avx512: the widest instruction set this processor runs',
      'GEMM        oneDNN 3.4.1',
      'bf16        amx: bf16 matrix products run on instructions of the processor',
      'threads     2: 4 physical cores (8 hardware threads) by affinity, CPU quota 2.5',
      'memory      5.5 GiB available of 6.0 GiB, the limit of the control group',
      'disk        100.0 GiB free in /runs',
      "CUDA        no card can be used: NVIDIA's driver (libcuda.so.1) is not installed",
      'device      cpu: the only one that can be used here',
    ]);
  });

  it('say what the built-in GEMM costs and how to have oneDNN', () => {
    const lines = describeMachine({
      ...machine,
      addon: { instruction_set: 'avx512', bf16_gemm: 'float32', onednn: null },
    });
    expect(lines).toContain(
      'GEMM        built-in: the addon was built without oneDNN, so matrix products take longer; ' +
        '`apt-get install libdnnl-dev`, then `node scripts/addon.mjs`',
    );
    expect(lines).toContain(
      'bf16        float32: bf16 matrix products are computed in float32; bf16 saves memory, not time ' +
        '(the processor could, with oneDNN)',
    );
  });

  it('say that the built-in GEMM was asked for', () => {
    vi.stubEnv('TSTRAIN_ONEDNN', '0');
    const addon = { instruction_set: 'avx512', bf16_gemm: 'float32', onednn: null };
    expect(describeMachine({ ...machine, addon })).toContain(
      'GEMM        built-in: TSTRAIN_ONEDNN=0 asks for it; matrix products take longer',
    );
  });

  const card = {
    missing: '',
    driver: '/lib/libcuda.so.1',
    driverVersion: '12.8',
    card: 'Card 9000',
    computeCapability: '9.0',
    memory: 80 * GiB,
    kernels: 'compiled for sm_90a by NVRTC 12.8',
    nvrtc: { missing: '', path: '/lib/libnvrtc.so.12', version: '12.8' },
    cublaslt: { missing: '', path: '/lib/libcublasLt.so.12', version: '12.8.4', ...noProducts },
  };

  it('tell of a card and of the libraries beside it', () => {
    expect(describeMachine({ ...machine, cuda: card })).toEqual(
      expect.arrayContaining([
        'CUDA        Card 9000 (compute capability 9.0, 80.0 GiB), driver of CUDA 12.8',
        'NVRTC       12.8 (/lib/libnvrtc.so.12): kernels are compiled for sm_90a by NVRTC 12.8',
        'cuBLASLt    12.8.4 (/lib/libcublasLt.so.12)',
      ]),
    );
  });

  it('say what a missing library costs and which package brings it', () => {
    const none = { missing: 'not found', path: '', version: '' };
    const elsewhere = 'in another place than a virtual environment in use, TSTRAIN_CUDA_PATH names it';
    expect(
      describeMachine({ ...machine, cuda: { ...card, nvrtc: none, cublaslt: { ...none, ...noProducts } } }),
    ).toEqual(
      expect.arrayContaining([
        'NVRTC       not found: kernels are compiled by the driver from PTX for compute_80, which use nothing that came ' +
          `after Ampere; \`pip install nvidia-cuda-nvrtc-cu12\` brings it; ${elsewhere}`,
        'cuBLASLt    not found: matrix products are made by the built-in kernels, which are slower; ' +
          `\`pip install nvidia-cublas-cu12\` brings it; ${elsewhere}`,
      ]),
    );
    expect(
      describeMachine({
        ...machine,
        cuda: { ...card, driverVersion: '13.0', cublaslt: { ...none, ...noProducts } },
      }),
    ).toContain(
      'cuBLASLt    not found: matrix products are made by the built-in kernels, which are slower; ' +
        `\`pip install nvidia-cublas\` brings it; ${elsewhere}`,
    );
  });

  it('say which device is taken of several', () => {
    expect(describeMachine({ ...machine, devices: ['fast', 'cpu'], device: 'fast' })).toContain(
      'device      fast: the best of fast, cpu',
    );
  });

  it('say why the addon does not load', () => {
    const lines = describeMachine({ ...machine, addon: { error: 'tstrain.node is missing' }, device: null });
    expect(lines).toContain('addon       does not load: tstrain.node is missing');
    expect(lines).toContain('device      none: without the addon nothing can be trained');
  });
});

describe('tstrain doctor', () => {
  async function doctor(...argv: string[]): Promise<string[]> {
    const printed: string[] = [];
    // Anew where a test has reset the modules: an addon that is loaded stays loaded.
    const { doctorCommand } = await import('./doctor.js');
    await doctorCommand((text) => printed.push(text)).parseAsync(argv, { from: 'user' });
    return printed;
  }

  it('prints one JSON object with --json, and on this machine finds what runs here', async () => {
    vi.stubEnv('TSTRAIN_NUM_THREADS', '3');
    const printed = await doctor('--json');
    expect(printed).toHaveLength(1);
    const diagnosis: Diagnosis = JSON.parse(printed[0]);
    expect(diagnosis.threads).toEqual({ count: 3, from: 'TSTRAIN_NUM_THREADS' });
    expect(diagnosis.addon).toHaveProperty('instruction_set');
    expect(diagnosis).toMatchObject({ devices: addon.devices(), device: defaultDevice() });
    expect(diagnosis.memory.total).toBeGreaterThan(0);
    expect(diagnosis.cuda).toEqual(addon.cuda());
    expect(process.exitCode).toBeUndefined();
  });

  it('works without the addon, and ends with status 1 then', async () => {
    vi.resetModules();
    vi.stubEnv('TSTRAIN_ADDON', '/nowhere/tstrain.node');
    const [text] = await doctor();
    expect(text).toContain(
      'addon       does not load: /nowhere/tstrain.node is missing; TSTRAIN_ADDON names it',
    );
    expect(process.exitCode).toBe(1);
  });
});
