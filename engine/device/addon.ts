import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UserError } from '../../errors.js';
import { defaultThreads } from '../machine/threads.js';
import { namedOps, type OpTable } from './named_ops.js';
import type { DType, Ops } from './ops.js';

/** Where memory and arithmetic are, by the names of native/device.h; or the plan of such a device, see {@link metaOf}. */
export type DeviceName = string;

let ofThisProcess: DeviceName | undefined;

/**
 * The device that is used where nobody names one: TSTRAIN_DEVICE, or the first that the addon lists.
 *
 * @throws UserError when the addon has no device of that name
 */
export function defaultDevice(): DeviceName {
  if (ofThisProcess === undefined) {
    const devices = addon.devices();
    const device = process.env.TSTRAIN_DEVICE ?? devices[0];
    if (!devices.includes(device))
      throw new UserError(`TSTRAIN_DEVICE=${device}: no such device; the addon has ${devices.join(', ')}`);
    ofThisProcess = device;
  }
  return ofThisProcess;
}

/**
 * Names the device that is used where nobody names one, for as long as the process lives.
 *
 * @throws UserError when it cannot be used, or another is in use already
 */
export function setDevice(device: DeviceName): void {
  const devices = addon.devices();
  if (!devices.includes(device))
    throw new UserError(
      `setDevice: ${device} cannot be used: ${addon.missing()[device] ?? `the addon has ${devices.join(', ')}`}`,
    );
  if (ofThisProcess !== undefined && ofThisProcess !== device)
    throw new UserError(
      `setDevice: ${ofThisProcess} is in use; ${device} must be named before the first tensor or model`,
    );
  ofThisProcess = device;
}

/** The device that counts what `device` would take, in bytes and FLOPs, and has no memory of its own. */
export function metaOf(device: DeviceName): DeviceName {
  return `meta:${device}`;
}

/** Whether a device only counts: its tensors have no values. */
export function isMeta(device: DeviceName): boolean {
  return device.startsWith('meta:');
}

/** What a device holds and has done since {@link Addon.resetStats}; bytes, and FLOPs as the contracts count them. */
export interface DeviceStats {
  /** What the arena can grow to: addresses, not memory. */
  arenaReserved: number;
  arenaInUse: number;
  arenaHighWater: number;
  /** How much of the high-water mark was workspace of the op that reached it. */
  arenaWorkspace: number;
  heapBytes: number;
  heapHighWater: number;
  /** What a device with memory of its own holds of the host's. */
  hostBytes: number;
  flops: number;
}

/** A library of CUDA's. Texts are empty where there is nothing to say. */
export interface CudaLibrary {
  /** Why it cannot be used, in words. */
  missing: string;
  path: string;
  version: string;
}

/** What there is of CUDA on this machine, whether or not it can be used. */
export interface CudaFacts {
  /** Why no card can be used, in words; empty when one can. */
  missing: string;
  /** The driver's library. */
  driver: string;
  driverVersion: string;
  card: string;
  computeCapability: string;
  /** Of the card, bytes. */
  memory: number;
  /** How kernels are made for the card. */
  kernels: string;
  nvrtc: CudaLibrary;
  /**
   * Asked for only where a card can be used; with the products it did in this process, those it had no algorithm for, which
   * the built-in kernels did, and the first of these in words; how many shapes of products it was tried on, for how long,
   * and for how many there was no memory to try.
   */
  cublaslt: CudaLibrary & {
    products: number;
    declined: number;
    firstDeclined: string;
    tried: number;
    seconds: number;
    untried: number;
  };
}

/** The native addon: what native/napi/addon.cpp exports, with the ops by the names of their arguments. */
export interface Addon {
  /** The devices that can compute on this machine, the default first. */
  devices(): DeviceName[];
  /** Of each other device of this build, why it cannot. */
  missing(): Record<DeviceName, string>;
  /** What computes on a device, and how products of operands of the type `products` are made. */
  describe(device: DeviceName, products: number): string;
  /**
   * Of a device that chooses by trying how it computes: what it has chosen so far, for the bits of its results depend on
   * it. Text to keep with a checkpoint, whose first line says on what it was tried; empty of a device that tries nothing.
   */
  chosen(device: DeviceName): string;
  /** Goes on with such choices. False where they were tried on something else, and are of no use. */
  choose(device: DeviceName, chosen: string): boolean;
  /** What the choosing has come to in this process, in words; empty where there is nothing to tell. */
  account(device: DeviceName): string;
  /** How far a plan says that a device's arena grows: to be said before the arena is used. */
  expectArena(device: DeviceName, bytes: number): void;
  cuda(): CudaFacts;
  /**
   * Whether to call the ops of work on these tensors, to have them recorded until {@link endRecording}, or to do nothing,
   * for the device does what it has recorded: for {@link Repeat}.
   */
  repeat(device: DeviceName, key: string, handles: readonly number[]): 'call' | 'record' | 'nothing';
  /** What was recorded is done, and kept; or forgotten, where it is not `whole`. */
  endRecording(device: DeviceName, whole: boolean): void;
  /**
   * A matrix of so many `columns` (0: no matrix) has the slack behind it that the device wants for products of operands
   * of the type `products`: elements that ops may use as they like (see native/tensor.h).
   */
  alloc(
    device: DeviceName,
    dtype: number,
    numel: number,
    arena: boolean,
    columns: number,
    products: number,
  ): number;
  /** Beside the arena; where a device has memory of its own, in the host's, which its ops reach all the same. */
  allocOnHost(device: DeviceName, dtype: number, numel: number): number;
  view(handle: number, elementOffset: number, numel: number): number;
  release(handle: number): void;
  /** Whether a buffer of this handle has not been released yet. */
  isLive(handle: number): boolean;
  copy(handle: number, elementOffset: number, host: ArrayBufferView, toDevice: boolean): void;
  /** Begins to copy a buffer out, behind all that was asked of its device. The number of that copy. */
  fetch(handle: number): number;
  /** Brings to `host` what has come of it; whether that is all. */
  fetched(fetch: number, host: ArrayBufferView): boolean;
  stats(device: DeviceName): DeviceStats;
  resetStats(device: DeviceName): void;
  /** @throws UserError when OpenMP does not grant so many */
  setThreads(threads: number): void;
  /**
   * Calls `listener` at the end of an op if one of these signals has come, until it is told of no numbers: for
   * {@link onSignals}.
   */
  watchSignals(numbers: readonly number[], listener: () => void): void;
  /** The signals that have come since this was last asked, each as often as it did. */
  takeSignals(): number[];
  /** Of the CPU's kernels. */
  info(): { instructionSet: string; bf16Gemm: string; onednn: string; threads: number };
  /** Bytes of memory of the device's own; 0 where it has the machine's. */
  ownMemory(device: DeviceName): { total: number; free: number };
  /** Products of matrices whose number of rows is a multiple of it leave nothing over. */
  rowStep(device: DeviceName): number;
  /** Matrices with a row a word have rows up to a multiple of it in memory. */
  vocabularyStep(device: DeviceName): number;
  /** A product that adds to a gradient should sum over so many rows, lest memory take longer than arithmetic. */
  gradientRows(device: DeviceName): number;
  /** Storage types: the code of each at the border, and the bytes of an element. */
  dtypes: Record<DType, { readonly code: number; readonly bytes: number }>;
  ops: Ops;
}

/** The project's root: the nearest directory above this file with a package.json, in the sources and in dist/. */
export function projectRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) {
    if (directory === dirname(directory))
      throw new UserError(`no package.json above ${import.meta.url}: TSTRAIN_ADDON must name the addon`);
    directory = dirname(directory);
  }
  return directory;
}

/** The command that builds the addon, in the sources and where the package is installed. */
export function buildCommand(): string {
  // Under Plug'n'Play, Node alone finds no package.
  const node = process.versions.pnp === undefined ? 'node' : 'yarn node';
  return `${node} ${relative(process.cwd(), join(projectRoot(), 'scripts/addon.mjs'))}`;
}

function native(): Omit<Addon, 'ops'> & OpTable {
  const named = process.env.TSTRAIN_ADDON;
  const file = named ?? join(projectRoot(), 'build/native/tstrain.node');
  if (!existsSync(file))
    throw new UserError(
      named === undefined
        ? `${file} is missing: installing tstrain builds it where install scripts may run ` +
            `(pnpm: after \`pnpm approve-builds\`); \`${buildCommand()}\` builds it now, in a minute or two`
        : `${file} is missing; TSTRAIN_ADDON names it`,
    );
  // How long a thread spins at the end of a parallel loop before it sleeps (about 0.6 ms), read by OpenMP when it
  // loads. Longer than the gaps between the ops of a step; OpenMP's own default, ten times that, makes everything
  // several times slower as soon as another process wants a core.
  process.env.GOMP_SPINCOUNT ??= '30000';
  try {
    return createRequire(import.meta.url)(file);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ERR_DLOPEN_FAILED') throw error;
    const reason = message.replace(`${file}: `, '');
    throw new UserError(
      named === undefined
        ? `${file} does not load: ${reason}; if it was built on another machine, delete ${dirname(file)} and ` +
            `build it on this one: \`${buildCommand()}\``
        : `${file}, which TSTRAIN_ADDON names, does not load: ${reason}`,
    );
  }
}

function load(): Addon {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new UserError(`tstrain runs on Linux x86-64; this is ${process.platform} ${process.arch}`);
  const exported = native();
  return {
    ...exported,
    ops: namedOps(exported),
    setThreads(threads) {
      try {
        exported.setThreads(threads);
      } catch (error) {
        throw new UserError((error as Error).message);
      }
    },
  };
}

let loaded: Addon | undefined;

/**
 * Loads the addon if nothing has needed it so far, and gives it the default threads, if nobody has set others.
 * @throws UserError when it is missing, or the threads are not granted
 */
export function loadAddon(): Addon {
  if (loaded === undefined) setThreads(defaultThreads());
  return loaded!;
}

function setThreads(threads: number): void {
  const addon = loaded ?? load();
  addon.setThreads(threads);
  loaded = addon;
}

/** The addon, loaded by whatever first needs it: importing this file does nothing. */
export const addon: Addon = {
  setThreads,
  get devices() {
    return loadAddon().devices;
  },
  get missing() {
    return loadAddon().missing;
  },
  get ownMemory() {
    return loadAddon().ownMemory;
  },
  get rowStep() {
    return loadAddon().rowStep;
  },
  get vocabularyStep() {
    return loadAddon().vocabularyStep;
  },
  get gradientRows() {
    return loadAddon().gradientRows;
  },
  get describe() {
    return loadAddon().describe;
  },
  get chosen() {
    return loadAddon().chosen;
  },
  get choose() {
    return loadAddon().choose;
  },
  get account() {
    return loadAddon().account;
  },
  get expectArena() {
    return loadAddon().expectArena;
  },
  get cuda() {
    return loadAddon().cuda;
  },
  get repeat() {
    return loadAddon().repeat;
  },
  get endRecording() {
    return loadAddon().endRecording;
  },
  get alloc() {
    return loadAddon().alloc;
  },
  get allocOnHost() {
    return loadAddon().allocOnHost;
  },
  get view() {
    return loadAddon().view;
  },
  get release() {
    return loadAddon().release;
  },
  get isLive() {
    return loadAddon().isLive;
  },
  get copy() {
    return loadAddon().copy;
  },
  get fetch() {
    return loadAddon().fetch;
  },
  get fetched() {
    return loadAddon().fetched;
  },
  get stats() {
    return loadAddon().stats;
  },
  get resetStats() {
    return loadAddon().resetStats;
  },
  get watchSignals() {
    return loadAddon().watchSignals;
  },
  get takeSignals() {
    return loadAddon().takeSignals;
  },
  get info() {
    return loadAddon().info;
  },
  get dtypes() {
    return loadAddon().dtypes;
  },
  get ops() {
    return loadAddon().ops;
  },
};
