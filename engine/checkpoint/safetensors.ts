import { closeSync, read } from 'node:fs';
import { promisify } from 'node:util';
import { asJson, UserError } from '../../errors.js';
import { openRegular, parseJson, readError, readFully, sizeOf } from '../../files.js';
import type { FloatStore } from '../device/native_tensor.js';
import { widenBfloat16, widenFloat16 } from './widen.js';

/**
 * Reading of the safetensors format: 8 bytes with the length N of the header (little endian), N bytes of JSON
 * {"name": {"dtype", "shape", "data_offsets": [begin, end]}, …}, then the data, to which the offsets relate.
 * Nothing in the header is believed before it is checked against the size of the file.
 */

/** Bytes of one element, for every dtype of the format that has whole bytes. */
const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  I64: 8,
  U64: 8,
  F64: 8,
  C64: 8,
} as const;

export type SafetensorsDType = keyof typeof DTYPE_BYTES;

/** One entry of a header that was found sound. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  /** Position in the file, in bytes from its start. */
  readonly position: number;
  readonly bytes: number;
}

/** The largest LLaMA's has 0.2 MB; the format's own library takes 100 MB. */
const MAX_HEADER_BYTES = 8 * 2 ** 20;

/** Values go through memory in pieces of this size, so that no tensor is ever whole in JavaScript. */
export const STAGING_BYTES = 16 * 2 ** 20;

const readAt = promisify(read);

/** A safetensors file whose header was checked. Tensors are read piece by piece; close() when done. */
export class SafetensorsFile {
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly headerBytes: number;

  private constructor(
    readonly path: string,
    private readonly fd: number,
  ) {
    const { entries, bytes } = readHeader(path, fd);
    this.tensors = new Map(entries.map((entry) => [entry.name, entry]));
    this.headerBytes = bytes;
  }

  /** @throws UserError naming the file, and the tensor where one is at fault, when the file is not sound. */
  static open(path: string): SafetensorsFile {
    const fd = openRegular(path);
    try {
      return new SafetensorsFile(path, fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  close(): void {
    closeSync(this.fd);
  }

  /**
   * Passes the values of a floating point tensor to `take` as float32, in order, in pieces. F32, F16 and BF16
   * arrive exactly, F64 rounded. A piece is only valid during the call.
   * @throws UserError naming file and tensor when it is absent, not floating point, or holds NaN or infinity.
   */
  async readFloats(name: string, take: (values: Float32Array, elementOffset: number) => void): Promise<void> {
    const entry = this.tensors.get(name);
    if (!entry) throw new UserError(`${this.path}: has no tensor ${name}`);
    const toFloats = TO_FLOATS[entry.dtype];
    if (!toFloats)
      throw new UserError(
        `${this.path}: ${name} is ${entry.dtype}; weights must be floating point (F32, F16, BF16 or F64)`,
      );
    const width = DTYPE_BYTES[entry.dtype];
    const staging = new ArrayBuffer(Math.min(entry.bytes, STAGING_BYTES));
    const converted = new Float32Array(entry.dtype === 'F32' ? 0 : staging.byteLength / width);
    for (let done = 0; done < entry.bytes; ) {
      const piece = new Uint8Array(staging, 0, Math.min(staging.byteLength, entry.bytes - done));
      await this.fill(piece, entry.position + done);
      const values = toFloats(staging, piece.length / width, converted);
      const bad = firstNotFinite(values);
      if (bad >= 0)
        throw new UserError(
          `${this.path}: ${name} holds ${notFinite(values[bad])} at element ${done / width + bad}; ` +
            'every weight must be a finite number',
        );
      take(values, done / width);
      done += piece.length;
    }
  }

  /** readFloats() into a tensor of the same number of elements, which may round them. */
  async readInto(name: string, target: FloatStore): Promise<void> {
    const entry = this.tensors.get(name);
    const size = entry && entry.bytes / DTYPE_BYTES[entry.dtype];
    if (size !== undefined && size !== target.size)
      throw new UserError(`${this.path}: ${name} has ${size} elements, expected are ${target.size}`);
    await this.readFloats(name, (values, elementOffset) => target.write(values, elementOffset));
  }

  private async fill(piece: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < piece.length; ) {
      const { bytesRead } = await readAt(this.fd, piece, done, piece.length - done, position + done).catch(
        (error) => {
          throw readError(error, this.path);
        },
      );
      if (bytesRead === 0) throw new UserError(`${this.path}: the file became shorter while it was read`);
      done += bytesRead;
    }
  }
}

/** The first `count` elements of `from` as float32: float32 where they are, others converted into `to`. */
type ToFloats = (from: ArrayBuffer, count: number, to: Float32Array) => Float32Array;

const TO_FLOATS: Partial<Record<SafetensorsDType, ToFloats>> = {
  F32: (from, count) => new Float32Array(from, 0, count),
  F64: (from, count, to) => {
    const values = to.subarray(0, count);
    values.set(new Float64Array(from, 0, count));
    return values;
  },
  BF16: (from, count, to) => {
    const values = to.subarray(0, count);
    widenBfloat16(new Uint16Array(from, 0, count), values);
    return values;
  },
  F16: (from, count, to) => {
    const values = to.subarray(0, count);
    widenFloat16(new Uint16Array(from, 0, count), values);
    return values;
  },
};

/** What a header lists, and its length. */
function readHeader(path: string, fd: number): { entries: TensorEntry[]; bytes: number } {
  const refuse = (what: string): never => {
    throw new UserError(`${path}: not a whole safetensors file: ${what}`);
  };
  const size = sizeOf(fd, path);
  if (size < 8) refuse(`it has ${size} bytes, too few for the length of its header`);
  const fill = (bytes: Buffer, position: number) => {
    if (readFully(fd, path, bytes, position) < bytes.length) refuse('it became shorter while it was read');
    return bytes;
  };
  const prefix = fill(Buffer.alloc(8), 0);
  const announced = prefix.readBigUInt64LE();
  if (announced > BigInt(size - 8))
    refuse(`its header should have ${announced} bytes, the file has ${size}. Was it downloaded whole?`);
  if (announced > MAX_HEADER_BYTES)
    refuse(`its header should have ${announced} bytes, over ${MAX_HEADER_BYTES}`);

  const bytes = fill(Buffer.alloc(Number(announced)), 8);
  const json = parseJson(bytes, `${path}: not a whole safetensors file: its header`);
  if (!isObject(json)) return refuse('its header is not a JSON object');

  const dataStart = 8 + bytes.length;
  const entries: TensorEntry[] = [];
  for (const [name, value] of Object.entries(json)) {
    if (name === '__metadata__') {
      if (!isObject(value) || Object.values(value).some((text) => typeof text !== 'string'))
        refuse('its __metadata__ is not a table of strings');
    } else {
      entries.push(checkEntry(name, value, dataStart, size, refuse));
    }
  }
  checkCoverage(entries, dataStart, size, refuse);
  return { entries, bytes: bytes.length };
}

function checkEntry(
  name: string,
  value: unknown,
  dataStart: number,
  fileSize: number,
  refuse: (what: string) => never,
): TensorEntry {
  if (!isObject(value)) return refuse(`the entry of ${name} is not an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(DTYPE_BYTES, dtype))
    return refuse(`${name} has the unknown dtype ${asJson(dtype)}`);
  if (!isCounts(shape)) return refuse(`${name} has the shape ${asJson(shape)}`);
  if (!isCounts(offsets) || offsets.length !== 2)
    return refuse(`${name} has the data_offsets ${asJson(offsets)}`);
  const [begin, end] = offsets;
  if (begin > end) return refuse(`the data of ${name} end (${end}) before they begin (${begin})`);
  if (end > fileSize - dataStart)
    return refuse(
      `the data of ${name} lie at bytes ${begin}…${end}, the file has ${fileSize - dataStart}. ` +
        'Was it downloaded whole?',
    );
  // A product beyond 2^53 is inexact, but then far from the size of any file.
  const bytes = shape.reduce((product, n) => product * n, DTYPE_BYTES[dtype as SafetensorsDType]);
  if (bytes !== end - begin)
    return refuse(`${name} is ${dtype} ${asJson(shape)}, which takes ${bytes} bytes, but has ${end - begin}`);
  return { name, dtype: dtype as SafetensorsDType, shape, position: dataStart + begin, bytes };
}

/** The data must be covered without overlap, hole or remainder, as the format demands. */
function checkCoverage(
  entries: readonly TensorEntry[],
  dataStart: number,
  fileSize: number,
  refuse: (what: string) => never,
): void {
  let end = dataStart;
  let before = 'the start of the data';
  for (const entry of entries.toSorted((a, b) => a.position - b.position || a.bytes - b.bytes)) {
    if (entry.position < end) refuse(`the data of ${entry.name} overlap those of ${before}`);
    if (entry.position > end) refuse(`there is a hole between ${before} and the data of ${entry.name}`);
    end = entry.position + entry.bytes;
    before = entry.name;
  }
  if (end !== fileSize) refuse(`${fileSize - end} bytes after the data of ${before} belong to no tensor`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

/** The index of the first NaN or infinity, or -1. Both have all exponent bits set. */
function firstNotFinite(values: Float32Array): number {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) if ((bits[i] & 0x7f80_0000) === 0x7f80_0000) return i;
  return -1;
}

function notFinite(value: number): string {
  return Number.isNaN(value) ? 'NaN' : 'an infinity';
}
