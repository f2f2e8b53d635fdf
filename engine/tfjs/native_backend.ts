import {
  type BackendValues,
  backend_util,
  type DataId,
  DataStorage,
  type DataType,
  engine,
  KernelBackend,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import { defaultDevice } from '../device/addon.js';
import { type DType, keepOnThrow, NativeTensor } from '../device/native_tensor.js';
import { cast } from '../ops/elementwise.js';

/** The name to give to `tf.setBackend`. */
export const BACKEND = 'native';

/** The dtypes whose values lie in native memory; the values of `string` stay in JavaScript. */
export type NumericType = 'float32' | 'int32' | 'bool';

const STORAGE: Record<NumericType, DType> = { float32: 'float32', int32: 'int32', bool: 'uint8' };

/** The dtype that TF.js sees for a storage type. */
function typeOf(native: NativeTensor): NumericType {
  switch (native.dtype) {
    case 'float32':
    case 'bfloat16':
      return 'float32';
    case 'int32':
      return 'int32';
    case 'uint8':
      return 'bool';
    case 'float64':
    case 'int16':
      throw new Error(`TF.js has no ${native.dtype}: such a tensor cannot be looked at as a tf.Tensor`);
  }
}

/** What a data id stands for: exactly one of the three forms of values. */
interface Entry {
  /** The TF.js tensors that share this data. */
  references: number;
  native?: NativeTensor;
  strings?: Uint8Array[];
  complex?: { real: TensorInfo; imag: TensorInfo };
  /** The memory belongs to the engine, which updates it in place: nothing but this id may share it. */
  borrowed?: boolean;
}

/** Values as they may come from outside, as the typed array that is the storage of `dtype`. */
function hostArray(values: BackendValues, dtype: NumericType): Float32Array | Int32Array | Uint8Array {
  const numbers = values as unknown as ArrayLike<number>;
  if (dtype === 'float32') return values instanceof Float32Array ? values : Float32Array.from(numbers);
  if (dtype === 'int32') return values instanceof Int32Array ? values : Int32Array.from(numbers);
  return values instanceof Uint8Array ? values : Uint8Array.from(numbers);
}

/**
 * TF.js's view of the native buffers: data ids with reference counts, each over one {@link NativeTensor} on the
 * default device. float32, int32 and bool lie in native memory; a complex64 is two float32 of its own; strings stay in
 * JavaScript. Buffers of the engine in bfloat16 look like float32.
 */
export class NativeBackend extends KernelBackend {
  private readonly data = new DataStorage<Entry>(this, engine());
  private readonly alive = new Set<NativeTensor>();

  // ---- what TF.js asks for ------------------------------------------------------------------------------------

  override write(values: BackendValues, shape: number[], dtype: DataType): DataId {
    const dataId = {};
    this.move(dataId, values, shape, dtype, 1);
    return dataId;
  }

  /** Takes over a data id of another backend, with its reference count. */
  override move(
    dataId: DataId,
    values: BackendValues,
    shape: number[],
    dtype: DataType,
    references: number,
  ): void {
    if (dtype === 'string') {
      this.data.set(dataId, { references, strings: values as Uint8Array[] });
    } else if (dtype === 'complex64') {
      // The form in which complex values are read: real and imaginary parts in turn.
      const pairs = values as Float32Array;
      const part = (offset: number) =>
        this.store(
          pairs.filter((_, i) => i % 2 === offset),
          shape,
          'float32',
        );
      this.data.set(dataId, { references, complex: { real: part(0), imag: part(1) } });
    } else {
      const native = NativeTensor.onHeap(defaultDevice(), STORAGE[dtype], shape);
      native.write(hostArray(values, dtype));
      this.hold(dataId, { references, native });
    }
  }

  override readSync(dataId: DataId): BackendValues {
    const { native, strings, complex } = this.data.get(dataId);
    if (native) return native.read() as Float32Array;
    if (strings) return strings;
    return backend_util.mergeRealAndImagArrays(
      this.readSync(complex!.real.dataId) as Float32Array,
      this.readSync(complex!.imag.dataId) as Float32Array,
    );
  }

  override async read(dataId: DataId): Promise<BackendValues> {
    const { native, complex, borrowed } = this.data.get(dataId);
    if (complex) {
      const parts = [complex.real, complex.imag].map((part) => this.read(part.dataId));
      const [real, imag] = (await Promise.all(parts)) as Float32Array[];
      return backend_util.mergeRealAndImagArrays(real, imag);
    }
    if (!native) return this.readSync(dataId);
    if (!borrowed) return native.fetch() as Promise<Float32Array>;
    // The engine may update it before it has been read.
    const copy = native.like();
    cast(copy, native);
    const values = copy.fetch();
    copy.dispose();
    return values as Promise<Float32Array>;
  }

  /** Drops one reference, or all by force; true when that was the last and the data are gone. */
  override disposeData(dataId: DataId, force = false): boolean {
    if (!this.data.has(dataId)) return true;
    const entry = this.data.get(dataId);
    entry.references--;
    if (!force && entry.references > 0) return false;
    this.data.delete(dataId);
    if (entry.native && this.alive.delete(entry.native)) entry.native.dispose();
    if (entry.complex) for (const part of Object.values(entry.complex)) this.disposeData(part.dataId, true);
    return true;
  }

  override refCount(dataId: DataId): number {
    return this.data.has(dataId) ? this.data.get(dataId).references : 0;
  }

  override incRef(dataId: DataId): void {
    this.data.get(dataId).references++;
  }

  decRef(dataId: DataId): void {
    if (this.data.has(dataId)) this.data.get(dataId).references--;
  }

  override numDataIds(): number {
    return this.data.numDataIds();
  }

  override memory(): { unreliable: boolean } {
    return { unreliable: false };
  }

  override floatPrecision(): 32 {
    return 32;
  }

  override async time(f: () => void): Promise<{ kernelMs: number }> {
    const start = util.now();
    f();
    return { kernelMs: util.now() - start };
  }

  /** Called when the backend is removed: native memory is not garbage collected. */
  override dispose(): void {
    for (const native of this.alive) native.dispose();
    this.alive.clear();
  }

  private hold(dataId: DataId, entry: Entry & { native: NativeTensor }): void {
    keepOnThrow(entry.native);
    this.alive.add(entry.native);
    this.data.set(dataId, entry);
  }

  // ---- what kernels ask for -----------------------------------------------------------------------------------

  /** The memory of a numeric tensor; it stays the tensor's. The type is bfloat16 for some float32 tensors. */
  native(tensor: TensorInfo): NativeTensor {
    const { native } = this.data.get(tensor.dataId);
    if (!native) throw new Error(`a ${tensor.dtype} tensor has no native memory`);
    return native;
  }

  /** The two float32 tensors that a complex64 tensor consists of; they stay its own. */
  parts(tensor: TensorInfo): { real: TensorInfo; imag: TensorInfo } {
    return this.data.get(tensor.dataId).complex!;
  }

  /** A new tensor, not yet known to TF.js, with memory of the step whose contents are undefined. */
  output(shape: readonly number[], dtype: NumericType): { info: TensorInfo; native: NativeTensor } {
    const native = NativeTensor.inArena(defaultDevice(), STORAGE[dtype], shape);
    return { info: this.adopt(native), native };
  }

  /** A new tensor, not yet known to TF.js, that owns `native` from now on. */
  adopt(native: NativeTensor): TensorInfo {
    const dtype = typeOf(native);
    const dataId = {};
    this.hold(dataId, { references: 1, native });
    return { dataId, shape: [...native.shape], dtype };
  }

  /** A new tensor, not yet known to TF.js, that looks at memory which the engine owns and changes in place. */
  borrow(native: NativeTensor): TensorInfo {
    const dataId = {};
    this.hold(dataId, { references: 1, native: native.view(native.shape), borrowed: true });
    return { dataId, shape: [...native.shape], dtype: typeOf(native) };
  }

  /** A new tensor, not yet known to TF.js, with these values. */
  store(values: BackendValues, shape: readonly number[], dtype: DataType): TensorInfo {
    return { dataId: this.write(values, [...shape], dtype), shape: [...shape], dtype };
  }

  /** A new complex64 tensor, not yet known to TF.js, that owns both parts. */
  storeComplex(real: TensorInfo, imag: TensorInfo): TensorInfo {
    const dataId = {};
    this.data.set(dataId, { references: 1, complex: { real, imag } });
    return { dataId, shape: real.shape, dtype: 'complex64' };
  }

  /**
   * The same values under another shape, without a copy: one more reference. Memory of the engine is copied, so
   * that a user's clone of a parameter does not change when the optimizer updates it.
   */
  share(tensor: TensorInfo, shape: readonly number[] = tensor.shape): TensorInfo {
    const entry = this.data.get(tensor.dataId);
    if (entry.borrowed) {
      const copy = entry.native!.like(shape);
      cast(copy, entry.native!);
      return this.adopt(copy);
    }
    entry.references++;
    return { dataId: tensor.dataId, shape: [...shape], dtype: tensor.dtype };
  }
}
