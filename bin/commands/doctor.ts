import { Command } from 'commander';
import { freeDisk } from '../../engine/checkpoint/directory.js';
import { addon, buildCommand, type CudaFacts } from '../../engine/device/addon.js';
import { availableMemory, type Memory } from '../../engine/machine/memory.js';
import { type Processor, processor } from '../../engine/machine/processor.js';
import { availableCores, type Cores, defaultThreads } from '../../engine/machine/threads.js';
import { version } from '../../recipes/version.js';
import { gib } from '../../recipes/words.js';

/** What `tstrain doctor --json` prints. Bytes; `null` where something is not there. */
export interface Diagnosis {
  tstrain: string;
  node: string;
  platform: string;
  processor: Processor & { cores: Cores };
  /** What the native addon says of itself, or why it does not load. */
  addon: { instruction_set: string; bf16_gemm: string; onednn: string | null } | { error: string };
  threads: { count: number; from: 'TSTRAIN_NUM_THREADS' | 'physical cores' };
  memory: Memory;
  disk: { directory: string; free: number };
  /** What there is of CUDA, whether or not it can be used. */
  cuda: CudaFacts | null;
  /** The devices that can compute here, the best first, and the one that `device: auto` takes. */
  devices: string[];
  device: string | null;
}

/** `tstrain doctor`: what this machine has, what will be used and why, what is missing. */
export function doctorCommand(print: (text: string) => void = console.log): Command {
  return new Command('doctor')
    .description('what this machine has, what will be used and why, what is missing')
    .option('--json', 'one JSON object on standard output')
    .action(({ json }: { json?: boolean }) => {
      const diagnosis = examine();
      print(json ? JSON.stringify(diagnosis) : describe(diagnosis).join('\n'));
      if (diagnosis.device === null) process.exitCode = 1;
    });
}

export function examine(): Diagnosis {
  const directory = process.cwd();
  const native = nativeAddon();
  return {
    tstrain: version,
    node: process.versions.node,
    platform: `${process.platform} ${process.arch}`,
    processor: { ...processor(), cores: availableCores() },
    addon: native.addon,
    threads: {
      count: defaultThreads(),
      from: process.env.TSTRAIN_NUM_THREADS ? 'TSTRAIN_NUM_THREADS' : 'physical cores',
    },
    memory: availableMemory(),
    disk: { directory, free: freeDisk(directory) },
    cuda: native.cuda,
    devices: native.devices,
    device: native.devices[0] ?? null,
  };
}

/** The diagnosis for people: a line a subject, what it means beside it. */
export function describe(d: Diagnosis): string[] {
  const line = (subject: string, text: string) => subject.padEnd(12) + text;
  const lines = [
    line('tstrain', `${d.tstrain} on Node ${d.node}, ${d.platform}`),
    line('processor', `${d.processor.name} (${d.processor.features.join(', ') || 'no AVX2'})`),
  ];
  if ('error' in d.addon) lines.push(line('addon', `does not load: ${d.addon.error}`));
  else
    lines.push(
      line(
        'kernels',
        `${d.addon.instruction_set}: ${process.env.TSTRAIN_ISA ? 'TSTRAIN_ISA asks for it' : 'the widest instruction set this processor runs'}`,
      ),
      line('GEMM', d.addon.onednn === null ? builtInGemm() : `oneDNN ${d.addon.onednn}`),
      line('bf16', `${d.addon.bf16_gemm}: ${bf16Reason(d)}`),
    );
  lines.push(
    line('threads', `${d.threads.count}: ${threadReason(d)}`),
    line('memory', memoryText(d.memory)),
    line('disk', `${gib(d.disk.free)} free in ${d.disk.directory}`),
  );
  if (d.cuda !== null) for (const [subject, text] of cudaTexts(d.cuda)) lines.push(line(subject, text));
  return [...lines, line('device', deviceText(d))];
}

function nativeAddon(): Pick<Diagnosis, 'addon' | 'devices' | 'cuda'> {
  try {
    // Whether OpenMP would grant the default threads is another question than whether the addon loads.
    addon.setThreads(1);
    const { instructionSet, bf16Gemm, onednn } = addon.info();
    return {
      addon: { instruction_set: instructionSet, bf16_gemm: bf16Gemm, onednn: onednn || null },
      devices: addon.devices(),
      cuda: addon.cuda(),
    };
  } catch (error) {
    return { addon: { error: (error as Error).message }, devices: [], cuda: null };
  }
}

function deviceText({ device, devices }: Diagnosis): string {
  if (device === null) return 'none: without the addon nothing can be trained';
  return devices.length === 1
    ? `${device}: the only one that can be used here`
    : `${device}: the best of ${devices.join(', ')}`;
}

/** Subject and text of what there is of CUDA, and of what each missing piece costs. */
function cudaTexts({ missing, card, computeCapability, memory, driverVersion, ...d }: CudaFacts): string[][] {
  if (missing) return [['CUDA', `no card can be used: ${missing}`]];
  // The packages of CUDA 13 dropped its version from their names.
  const wheel = (name: string) =>
    `\`pip install ${name}${driverVersion.startsWith('12.') ? '-cu12' : ''}\` brings it; in another place than a ` +
    'virtual environment in use, TSTRAIN_CUDA_PATH names it';
  return [
    [
      'CUDA',
      `${card} (compute capability ${computeCapability}, ${gib(memory)}), driver of CUDA ${driverVersion}`,
    ],
    [
      'NVRTC',
      d.nvrtc.missing
        ? `${d.nvrtc.missing}: kernels are compiled by the driver from PTX for compute_80, which use nothing that came ` +
          `after Ampere; ${wheel('nvidia-cuda-nvrtc')}`
        : `${d.nvrtc.version} (${d.nvrtc.path}): kernels are ${d.kernels}`,
    ],
    [
      'cuBLASLt',
      d.cublaslt.missing
        ? `${d.cublaslt.missing}: matrix products are made by the built-in kernels, which are slower; ${wheel('nvidia-cublas')}`
        : `${d.cublaslt.version} (${d.cublaslt.path})`,
    ],
  ];
}

function builtInGemm(): string {
  return process.env.TSTRAIN_ONEDNN === '0'
    ? 'built-in: TSTRAIN_ONEDNN=0 asks for it; matrix products take longer'
    : 'built-in: the addon was built without oneDNN, so matrix products take longer; ' +
        `\`apt-get install libdnnl-dev\`, then \`${buildCommand()}\``;
}

function bf16Reason({ addon, processor }: Diagnosis): string {
  const { bf16_gemm, onednn } = addon as { bf16_gemm: string; onednn: string | null };
  if (bf16_gemm !== 'float32') return 'bf16 matrix products run on instructions of the processor';
  const wide = 'bf16 matrix products are computed in float32; bf16 saves memory, not time';
  const able = processor.features.some((flag) => flag.endsWith('_bf16'));
  return able && onednn === null ? `${wide} (the processor could, with oneDNN)` : `${wide} here`;
}

function threadReason({ threads, processor: { cores } }: Diagnosis): string {
  const all = `${cores.physical} physical cores (${cores.logical} hardware threads) by affinity, ${
    cores.quota === undefined ? 'no CPU quota' : `CPU quota ${Number(cores.quota.toFixed(2))}`
  }`;
  if (threads.from === 'TSTRAIN_NUM_THREADS') return `TSTRAIN_NUM_THREADS asks for it; ${all}`;
  return threads.count < cores.usable ? `OMP_THREAD_LIMIT allows no more; ${all}` : all;
}

function memoryText({ total, available, limited }: Memory): string {
  return `${gib(available)} available of ${gib(total)}${limited ? ', the limit of the control group' : ''}`;
}
