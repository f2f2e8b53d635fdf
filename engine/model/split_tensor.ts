import { type FloatStore, NativeTensor } from '../device/native_tensor.js';
import { joinFloat, splitFloat } from '../ops/split_float.js';

/** Elements that are made, or read back, at a time: 16 MiB as float32. */
const PIECE = 2 ** 22;

/**
 * Float32 values of which arithmetic uses the bfloat16 and nobody the rest, which is kept beside it. Both are always of the
 * same values. Without a remainder the values are what bfloat16 holds of them.
 */
export class SplitTensor implements FloatStore {
  /** What is read and written here. */
  readonly dtype: 'float32' | 'bfloat16';

  /** Takes over bfloat16 `high` and int16 `low` of one shape. */
  constructor(
    readonly high: NativeTensor,
    readonly low?: NativeTensor,
  ) {
    this.dtype = low ? 'float32' : 'bfloat16';
  }

  get shape(): readonly number[] {
    return this.high.shape;
  }

  get size(): number {
    return this.high.size;
  }

  get elementBytes(): number {
    return this.low ? 4 : 2;
  }

  get bytes(): number {
    return this.size * this.elementBytes;
  }

  view(shape: readonly number[], elementOffset = 0): SplitTensor {
    return new SplitTensor(this.high.view(shape, elementOffset), this.low?.view(shape, elementOffset));
  }

  like(): SplitTensor {
    return new SplitTensor(this.high.like(), this.low?.like());
  }

  /** Takes the values of a float32 tensor, from element `elementOffset` on. */
  take(x: NativeTensor, elementOffset = 0): void {
    const part = this.view(x.shape, elementOffset);
    splitFloat(part.high, part.low, x);
    part.dispose();
  }

  /** Sets all values, by `make` for each piece of them: a float32 tensor, and the place of its first element. */
  fill(make: (piece: NativeTensor, place: number) => void): void {
    for (let place = 0; place < this.size; place += PIECE) {
      const piece = NativeTensor.onHeap(this.high.device, 'float32', [Math.min(PIECE, this.size - place)]);
      make(piece, place);
      this.take(piece, place);
      piece.dispose();
    }
  }

  write(values: Float32Array, elementOffset = 0): void {
    const x = NativeTensor.from(this.high.device, values);
    this.take(x, elementOffset);
    x.dispose();
  }

  floats(): Float32Array {
    const values = new Float32Array(this.size);
    if (!this.low) values.set(this.high.floats());
    else this.copyRaw(new Uint8Array(values.buffer), 0);
    return values;
  }

  copyRaw(host: Uint8Array, elementOffset: number): void {
    if (!this.low) {
      this.high.copyRaw(host, elementOffset, 'toHost');
      return;
    }
    const x = NativeTensor.onHeap(this.high.device, 'float32', [host.length / 4]);
    const part = this.view(x.shape, elementOffset);
    joinFloat(x, part.high, part.low!);
    x.copyRaw(host, 0, 'toHost');
    part.dispose();
    x.dispose();
  }

  dispose(): void {
    this.high.dispose();
    this.low?.dispose();
  }
}
