import { createHash } from 'node:crypto';
import { appendFileSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { addon, type DeviceName, isMeta, metaOf } from '../engine/device/addon.js';
import { type DType, type FloatType, NativeTensor, sizeOf } from '../engine/device/native_tensor.js';
import type { Four } from '../engine/device/ops.js';

// What the case files of the op table (engine/ops/*.cases.ts) are made of. A case file exports `cases`, which
// declares its tests for one device; runOpCases() runs every file on every device that is present. References are
// naive float64 formulas over the inputs as they are stored, written beside the cases.

export type OpCases = (device: DeviceName) => void;

/** What a processor must have for the kernels of an instruction set (native/cpu/select.cpp). */
const FLAGS = {
  sse: [],
  avx2: ['avx2', 'fma'],
  avx512: ['avx512f', 'avx512bw', 'avx512dq', 'avx512vl'],
};

const DIRECTORY = join(import.meta.dirname, '../engine/ops');

/** Names of the case files: compiled ones in a bundle. */
export function caseFiles(): string[] {
  return readdirSync(DIRECTORY)
    .filter((name) => /\.cases\.[jt]s$/.test(name))
    .sort();
}

/**
 * Declares the cases of all files, or of these, on all devices that compute (a `meta` device only checks and counts) or on these:
 * with the kernels that this processor gets, or, in a process where nothing native has run yet, with those of another
 * instruction set and the built-in GEMM.
 */
export async function runOpCases({
  instructionSet,
  devices = addon.devices(),
  files = caseFiles(),
}: {
  instructionSet?: keyof typeof FLAGS;
  devices?: DeviceName[];
  files?: string[];
} = {}): Promise<void> {
  const present = readFileSync('/proc/cpuinfo', 'utf8')
    .match(/^flags.*$/m)![0]
    .split(' ');
  const runs = !instructionSet || FLAGS[instructionSet].every((flag) => present.includes(flag));
  if (instructionSet) {
    process.env.TSTRAIN_ISA = instructionSet;
    process.env.TSTRAIN_ONEDNN = '0';
    it.skipIf(!runs)(`the kernels are ${instructionSet}, the GEMM is the built-in one`, () => {
      expect(addon.info()).toMatchObject({ instructionSet, onednn: '', bf16Gemm: 'float32' });
    });
  }
  for (const file of files) {
    const { cases } = (await import(join(DIRECTORY, file))) as { cases: OpCases };
    for (const device of devices)
      describe.skipIf(!runs)(`${file.replace(/\.cases.*/, '')} on ${device}`, () => {
        afterEach(disposeAll);
        cases(device);
      });
  }
}

export type { FloatType } from '../engine/device/native_tensor.js';
export const FLOATS: FloatType[] = ['float32', 'bfloat16'];

/** What rounding to a type changes a number by at most, relative: half a unit in the last place. */
export const ROUNDING: Record<FloatType, number> = { float32: 2 ** -24, bfloat16: 2 ** -8 };

// ---- values ---------------------------------------------------------------------------------------------------

/** A repeatable source of numbers (Mulberry32 and Box–Muller). */
export class Random {
  constructor(private state: number) {}

  /** Uniform in [0, 1). */
  uniform(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** Whole, in 0 … below − 1. */
  below(below: number): number {
    return Math.floor(this.uniform() * below);
  }

  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  normals(count: number): Float64Array {
    return Float64Array.from({ length: count }, () => this.normal());
  }
}

const oneFloat = new Float32Array(1);
const itsBits = new Uint32Array(oneFloat.buffer);

/** The bits of the bfloat16 nearest to a float32 (ties to even), as the kernels must round too. */
export function bfloat16Bits(value: number): number {
  oneFloat[0] = value;
  const bits = itsBits[0];
  if (Number.isNaN(value)) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

function toBytes(dtype: DType, values: ArrayLike<number>): Uint8Array {
  const typed = {
    float32: () => new Float32Array(values),
    bfloat16: () => new Uint16Array(values.length).map((_, i) => bfloat16Bits(values[i])),
    int32: () => new Int32Array(values),
    float64: () => new Float64Array(values),
    uint8: () => new Uint8Array(values),
    int16: () => new Int16Array(values),
  }[dtype]();
  return new Uint8Array(typed.buffer);
}

function fromBytes(dtype: DType, bytes: Uint8Array): Float64Array {
  const { buffer } = bytes;
  switch (dtype) {
    case 'float32':
      return new Float64Array(new Float32Array(buffer));
    case 'bfloat16':
      return new Float64Array(
        new Float32Array(new Uint32Array(new Uint16Array(buffer)).map((bits) => bits << 16).buffer),
      );
    case 'int32':
      return new Float64Array(new Int32Array(buffer));
    case 'float64':
      return new Float64Array(buffer);
    case 'uint8':
      return new Float64Array(bytes);
    case 'int16':
      return new Float64Array(new Int16Array(buffer));
  }
}

// ---- tensors --------------------------------------------------------------------------------------------------

// A tensor of a case lies inside a larger buffer whose borders are filled with ones: NaN as floats, −1 as int32. An
// op that reads over the end then shows NaN (or refuses the id), one that writes over it is found by disposeAll().
// Every other tensor starts at an odd element, for nothing promises the kernels alignment; with TSTRAIN_ALIGNED_CASES=1
// none does, so that ops on several tensors take their way for aligned ones too.
const BORDER = 64;
const ALL_ALIGNED = process.env.TSTRAIN_ALIGNED_CASES === '1';
let allAligned = ALL_ALIGNED;

/** From here to the end of the case no tensor starts at an odd element: for kernels that take no others. */
export function alignTensors(): void {
  allAligned = true;
}

interface Bordered {
  whole: NativeTensor;
  inner: NativeTensor;
  start: number;
}

let alive: Bordered[] = [];
/** Of all bytes that a case has read of tensors, and in the end of those that lie between borders. */
let digest = createHash('sha256');

/** A tensor of undefined contents (NaN), disposed after the case. */
export function empty(device: DeviceName, dtype: DType, shape: readonly number[]): NativeTensor {
  const start = allAligned || alive.length % 2 === 1 ? BORDER : BORDER + 3;
  const size = sizeOf(shape);
  const whole = NativeTensor.onHeap(device, dtype, [start + size + BORDER]);
  if (!isMeta(device)) whole.copyRaw(new Uint8Array(whole.bytes).fill(0xff), 0, 'toDevice');
  const inner = whole.view(shape, start);
  alive.push({ whole, inner, start });
  return inner;
}

/** A tensor with these values, rounded to its type. */
export function tensor(
  device: DeviceName,
  dtype: DType,
  values: ArrayLike<number>,
  shape: readonly number[] = [values.length],
): NativeTensor {
  const t = empty(device, dtype, shape);
  expect(values.length).toBe(t.size);
  if (!isMeta(device)) t.copyRaw(toBytes(dtype, values), 0, 'toDevice');
  return t;
}

/** A tensor of normally distributed values. */
export function normal(
  device: DeviceName,
  dtype: DType,
  random: Random,
  shape: readonly number[],
  scale = 1,
): NativeTensor {
  return tensor(
    device,
    dtype,
    random.normals(sizeOf(shape)).map((x) => scale * x),
    shape,
  );
}

/** The values exactly as they are stored. */
export function valuesOf(t: NativeTensor): Float64Array {
  return fromBytes(t.dtype, bytesOf(t));
}

export function bytesOf(t: NativeTensor): Uint8Array {
  const bytes = new Uint8Array(t.bytes);
  t.copyRaw(bytes, 0, 'toHost');
  digest.update(bytes);
  return bytes;
}

/** Releases the tensors of a case, after a look at the memory around them. */
function disposeAll(): void {
  const tensors = alive;
  alive = [];
  allAligned = ALL_ALIGNED;
  let written = 0;
  for (const { whole, inner, start } of tensors) {
    if (!isMeta(whole.device)) {
      const bytes = new Uint8Array(whole.bytes);
      whole.copyRaw(bytes, 0, 'toHost');
      digest.update(bytes);
      const [from, to] = [start * whole.elementBytes, (start + inner.size) * whole.elementBytes];
      for (const border of [bytes.subarray(0, from), bytes.subarray(to)])
        for (const byte of border) if (byte !== 0xff) written++;
    }
    inner.dispose();
    whole.dispose();
  }
  // Two runs whose files are equal computed the same, to the last bit.
  const { TSTRAIN_CASE_DIGESTS: file } = process.env;
  if (file) appendFileSync(file, `${expect.getState().currentTestName} ${digest.digest('hex')}\n`);
  digest = createHash('sha256');
  expect(written, 'bytes written outside of a tensor').toBe(0);
}

/** Where the elements of a shape, in order, lie by strides. */
export function positions(shape: Four, strides: Four): number[] {
  const all: number[] = [];
  for (let i = 0; i < shape[0]; i++)
    for (let j = 0; j < shape[1]; j++)
      for (let k = 0; k < shape[2]; k++)
        for (let l = 0; l < shape[3]; l++)
          all.push(i * strides[0] + j * strides[1] + k * strides[2] + l * strides[3]);
  return all;
}

// ---- comparisons ----------------------------------------------------------------------------------------------

/** |actual − expected| ≤ relative · |expected| + absolute, for each element. */
export interface Tolerance {
  relative?: number;
  absolute?: number;
}

export function expectClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { relative = 0, absolute = 0 }: Tolerance,
  what = '',
): void {
  expect(actual.length, what).toBe(expected.length);
  for (let i = 0; i < actual.length; i++)
    if (!(Math.abs(actual[i] - expected[i]) <= relative * Math.abs(expected[i]) + absolute))
      expect.fail(
        `${what}[${i}] is ${actual[i]}, not ${expected[i]} ± ${relative * Math.abs(expected[i]) + absolute}`,
      );
}

export function expectSameBytes(actual: NativeTensor, expected: NativeTensor, what = ''): void {
  expect(Buffer.compare(bytesOf(actual), bytesOf(expected)), what).toBe(0);
}

export function maxAbs(values: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < values.length; i++) most = Math.max(most, Math.abs(values[i]));
  return most;
}

export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/**
 * Checks a gradient by central finite differences of `loss`, a float64 function of `x`: single elements (all of a
 * small x, else a sample), to within `tolerance` of the largest, and random directions, in which every element
 * counts, to within `tolerance` of the gradient's length (0.1 at least: terms of order 1 may cancel). With a step of 1e-4 the difference itself is right to about
 * 1e-8 for losses of order 1 with curvature of order 1.
 */
export function expectGradient(
  loss: (x: Float64Array) => number,
  x: Float64Array,
  gradient: Float64Array,
  tolerance: number,
  what = 'gradient',
): void {
  expect(gradient.length, what).toBe(x.length);
  const step = 1e-4;
  const along = (direction: (i: number) => number) => {
    const ahead = loss(x.map((value, i) => value + step * direction(i)));
    const behind = loss(x.map((value, i) => value - step * direction(i)));
    return (ahead - behind) / (2 * step);
  };
  const random = new Random(x.length);
  const elements = x.length <= 12 ? x.length : 6;
  const largest = Math.max(maxAbs(gradient), 0.1);
  for (let n = 0; n < elements; n++) {
    const i = x.length <= 12 ? n : random.below(x.length);
    const slope = along((j) => (j === i ? 1 : 0));
    expect(
      Math.abs(gradient[i] - slope),
      `${what}[${i}]: ${gradient[i]}, slope ${slope}`,
    ).toBeLessThanOrEqual(tolerance * largest);
  }
  const length = Math.max(Math.sqrt(dot(gradient, gradient)), 0.1);
  for (let n = 0; n < 2; n++) {
    const direction = random.normals(x.length);
    const slope = along((i) => direction[i]);
    // Each element's error comes in with a normal weight: three standard deviations.
    expect(Math.abs(dot(gradient, direction) - slope), `${what} along ${n}`).toBeLessThanOrEqual(
      3 * tolerance * length,
    );
  }
}

/** Runs `body` with that many threads and goes back to what was before. */
export function withThreads<T>(threads: number, body: () => T): T {
  const before = addon.info().threads;
  addon.setThreads(threads);
  try {
    return body();
  } finally {
    addon.setThreads(before);
  }
}

/** A test that a call is refused with this message: on `device`, and on its `meta`, where only contracts are checked. */
export function itRefuses(
  what: string,
  device: DeviceName,
  message: string,
  call: (device: DeviceName) => void,
): void {
  it(`refuses ${what}`, () => {
    for (const d of [device, metaOf(device)]) expect(() => call(d), d).toThrow(message);
  });
}
