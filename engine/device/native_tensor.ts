import { addon, type DeviceName, isMeta } from './addon.js';
import type { DType, Tensor } from './ops.js';

export type { DType } from './ops.js';

/** The typed array whose elements are those of a storage type; bfloat16 is seen as float32. */
const ARRAYS = {
  float32: Float32Array,
  bfloat16: Float32Array,
  int32: Int32Array,
  float64: Float64Array,
  uint8: Uint8Array,
  int16: Int16Array,
} as const satisfies Record<DType, unknown>;

/** The types of numbers that arithmetic is for. */
export type FloatType = Extract<DType, 'float32' | 'bfloat16'>;

/** Float values and what files need of them, however they are kept. */
export interface FloatStore {
  /** As files have the values. */
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly size: number;
  readonly elementBytes: number;
  readonly bytes: number;
  /** Shares memory: `shape` elements from `elementOffset` on. */
  view(shape: readonly number[], elementOffset?: number): FloatStore;
  /** A new one that keeps values as this one does. */
  like(): FloatStore;
  /** Copies values in, from element `elementOffset` on. */
  write(values: Float32Array, elementOffset?: number): void;
  floats(): Float32Array;
  /** Bytes of `dtype` from element `elementOffset` on: `host` decides how many. */
  copyRaw(host: Uint8Array, elementOffset: number, direction: 'toHost'): void;
  dispose(): void;
}

/** The number of elements of a shape. */
export function sizeOf(shape: readonly number[]): number {
  let size = 1;
  for (const n of shape) size *= n;
  return size;
}

/**
 * A stretch of one device's memory with a shape and a storage type: what the op table reads and writes. Arithmetic on
 * bfloat16 is float32 inside every op.
 *
 * It is not garbage collected: whoever allocates it disposes it, and using it afterwards throws. Memory comes
 * from the heap (weights, optimizer state, what lives long) or from the device's arena (what a step makes and
 * drops). A view shares its parent's memory, which goes when the last of them is disposed.
 */
export class NativeTensor implements Tensor, FloatStore {
  readonly size: number;

  private constructor(
    readonly handle: number,
    readonly device: DeviceName,
    readonly dtype: DType,
    readonly shape: readonly number[],
  ) {
    this.size = sizeOf(shape);
  }

  private static allocate(
    device: DeviceName,
    dtype: DType,
    shape: readonly number[],
    inArena: boolean,
    columns = 0,
    products = dtype,
  ): NativeTensor {
    const { dtypes } = addon;
    const handle = noted(
      addon.alloc(device, dtypes[dtype].code, sizeOf(shape), inArena, columns, dtypes[products].code),
    );
    return new NativeTensor(handle, device, dtype, shape);
  }

  /** Memory that lives until it is disposed. Its contents are undefined. */
  static onHeap(device: DeviceName, dtype: DType, shape: readonly number[]): NativeTensor {
    return NativeTensor.allocate(device, dtype, shape, false);
  }

  /**
   * Memory of the machine's that ops of the device reach too, over the bus where the device has memory of its own; it lives
   * until it is disposed. Its contents are undefined.
   */
  static onHost(device: DeviceName, dtype: DType, shape: readonly number[]): NativeTensor {
    const handle = noted(addon.allocOnHost(device, addon.dtypes[dtype].code, sizeOf(shape)));
    return new NativeTensor(handle, device, dtype, shape);
  }

  /** Memory of a training step: reused at once after dispose(). Its contents are undefined. */
  static inArena(device: DeviceName, dtype: DType, shape: readonly number[]): NativeTensor {
    return NativeTensor.allocate(device, dtype, shape, true);
  }

  /**
   * A matrix in the arena that takes part in products of operands of the type `products`. Behind it there may be room
   * for more rows, as the device wants it: products may then be done on whole steps of rows, whatever the number of
   * tokens.
   */
  static matrix(
    device: DeviceName,
    dtype: DType,
    shape: readonly [rows: number, columns: number],
    products: DType = dtype,
  ): NativeTensor {
    return NativeTensor.allocate(device, dtype, shape, true, shape[1], products);
  }

  /** A heap tensor with these values, of the array's type. */
  static from(
    device: DeviceName,
    values: Float32Array | Int32Array | Float64Array,
    shape: readonly number[] = [values.length],
  ) {
    const dtype =
      values instanceof Int32Array ? 'int32' : values instanceof Float64Array ? 'float64' : 'float32';
    const tensor = NativeTensor.onHeap(device, dtype, shape);
    tensor.write(values);
    return tensor;
  }

  /**
   * Int32 arrays as heap tensors of one block of memory, which goes up in one copy; to be disposed one by one. Each starts
   * at a multiple of 64 elements, an alignment that devices like.
   */
  static stage(device: DeviceName, arrays: readonly Int32Array[]): NativeTensor[] {
    const starts: number[] = [];
    let size = 0;
    for (const { length } of arrays) {
      starts.push(size);
      size += Math.ceil(length / 64) * 64;
    }
    const host = new Int32Array(size);
    arrays.forEach((array, i) => {
      host.set(array, starts[i]);
    });
    const block = NativeTensor.from(device, host);
    const parts = arrays.map(({ length }, i) => block.view([length], starts[i]));
    // Its memory stays until the last of its parts goes.
    block.dispose();
    return parts;
  }

  get bytes(): number {
    return this.size * this.elementBytes;
  }

  get elementBytes(): number {
    return addon.dtypes[this.dtype].bytes;
  }

  /** A new arena tensor on this one's device; with two dimensions, a matrix for products of its type. */
  like(shape: readonly number[] = this.shape, dtype: DType = this.dtype): NativeTensor {
    return NativeTensor.allocate(this.device, dtype, shape, true, shape.length === 2 ? shape[1] : 0);
  }

  /** Shares memory: `shape` elements from `elementOffset` on. */
  view(shape: readonly number[], elementOffset = 0): NativeTensor {
    return new NativeTensor(
      noted(addon.view(this.handle, elementOffset, sizeOf(shape))),
      this.device,
      this.dtype,
      shape,
    );
  }

  /** This very tensor under another shape of as many elements: no new memory, and disposed together with it. */
  reshaped(shape: readonly number[]): NativeTensor {
    if (sizeOf(shape) !== this.size) throw new Error(`[${this.shape}] cannot take the shape [${shape}]`);
    return new NativeTensor(this.handle, this.device, this.dtype, shape);
  }

  dispose(): void {
    addon.release(this.handle);
  }

  /**
   * Copies values in, from element `elementOffset` on. Float32Array values are rounded to nearest even when the
   * tensor is bfloat16; otherwise the array's type must be the tensor's. Does nothing on `meta`.
   */
  write(values: Float32Array | Int32Array | Float64Array | Uint8Array | Int16Array, elementOffset = 0): void {
    const wanted = ARRAYS[this.dtype];
    if (!(values instanceof wanted))
      throw new Error(`a ${this.dtype} tensor takes a ${wanted.name}, not a ${values.constructor.name}`);
    if (isMeta(this.device)) return;
    if (this.dtype === 'bfloat16') {
      const wide = NativeTensor.onHeap(this.device, 'float32', [values.length]);
      const narrow = this.view([values.length], elementOffset);
      addon.copy(wide.handle, 0, values, true);
      addon.ops.cast({ y: narrow, x: wide, n: values.length });
      narrow.dispose();
      wide.dispose();
    } else {
      addon.copy(this.handle, elementOffset, values, true);
    }
  }

  /** The values in the array of their type, which for bfloat16 is Float32Array too. */
  read(): Float32Array | Int32Array | Float64Array | Uint8Array | Int16Array {
    if (this.dtype === 'bfloat16') {
      const wide = NativeTensor.onHeap(this.device, 'float32', [this.size]);
      addon.ops.cast({ y: wide, x: this, n: this.size });
      const values = wide.read();
      wide.dispose();
      return values;
    }
    const host = new ARRAYS[this.dtype](this.size);
    addon.copy(this.handle, 0, host, false);
    return host;
  }

  /**
   * What {@link read} gives as things are now, without waiting for the device: other JavaScript runs meanwhile. The tensor
   * may be disposed then, but must not be written to.
   */
  async fetch(): Promise<Float32Array | Int32Array | Float64Array | Uint8Array | Int16Array> {
    if (this.dtype === 'bfloat16') {
      // In the arena, for a device may have to be waited for when other memory goes.
      const wide = NativeTensor.inArena(this.device, 'float32', [this.size]);
      addon.ops.cast({ y: wide, x: this, n: this.size });
      const values = wide.fetch();
      wide.dispose();
      return values;
    }
    const kept = this.view([this.size]);
    keepOnThrow(kept);
    try {
      const host = new ARRAYS[this.dtype](this.size);
      const fetch = addon.fetch(kept.handle);
      while (!addon.fetched(fetch, host)) await new Promise((next) => setImmediate(next));
      return host;
    } finally {
      kept.dispose();
    }
  }

  /** The values of a float tensor. */
  floats(): Float32Array {
    if (this.dtype !== 'float32' && this.dtype !== 'bfloat16')
      throw new Error(`floats() of a ${this.dtype} tensor`);
    return this.read() as Float32Array;
  }

  /** Raw bytes of the storage type, from element `elementOffset` on: `host` decides how many. */
  copyRaw(host: Uint8Array, elementOffset: number, direction: 'toDevice' | 'toHost'): void {
    addon.copy(this.handle, elementOffset, host, direction === 'toDevice');
  }
}

/** The handles made since {@link releaseOnThrow} began, while it runs. */
let made: Set<number> | undefined;

function noted(handle: number): number {
  made?.add(handle);
  return handle;
}

/** What `body` returns. If it throws, all that it made and did not dispose is released: its caller cannot know of it. */
export function releaseOnThrow<T>(body: () => T): T {
  // What an inner call makes is the outer one's to release.
  if (made !== undefined) return body();
  made = new Set();
  try {
    return body();
  } catch (error) {
    for (const handle of made) if (addon.isLive(handle)) addon.release(handle);
    throw error;
  } finally {
    made = undefined;
  }
}

/** Takes a tensor out of that: it has an owner who disposes it. */
export function keepOnThrow({ handle }: NativeTensor): void {
  made?.delete(handle);
}

/** Disposes them all. */
export function release(...tensors: readonly NativeTensor[]): void {
  for (const t of tensors) t.dispose();
}
