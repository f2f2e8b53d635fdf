import type { DeviceName } from '../device/addon.js';
import { type DType, NativeTensor } from '../device/native_tensor.js';
import { cast } from '../ops/elementwise.js';

/** Rows of the first allocation. */
const FIRST_ROWS = 64;

/** The keys and values of one text in one layer: a row k | v for each token, in memory that doubles when full. */
export class KvCache {
  private buffer: NativeTensor;
  private capacity = FIRST_ROWS;
  private length = 0;

  constructor(
    device: DeviceName,
    dtype: DType,
    private readonly width: number,
  ) {
    this.buffer = NativeTensor.onHeap(device, dtype, [FIRST_ROWS, width]);
  }

  /**
   * Makes room for `count` more tokens: `added` [count, width] is to be filled, `all` [length, width] are the rows
   * from the first token to these. Both are views to be disposed by the caller.
   */
  append(count: number): { added: NativeTensor; all: NativeTensor } {
    const start = this.length;
    this.length += count;
    if (this.length > this.capacity) this.grow(start);
    return {
      added: this.buffer.view([count, this.width], start * this.width),
      all: this.buffer.view([this.length, this.width]),
    };
  }

  dispose(): void {
    this.buffer.dispose();
  }

  private grow(filled: number): void {
    while (this.capacity < this.length) this.capacity *= 2;
    const { device, dtype } = this.buffer;
    const larger = NativeTensor.onHeap(device, dtype, [this.capacity, this.width]);
    const [from, to] = [this.buffer, larger].map((buffer) => buffer.view([filled, this.width]));
    cast(to, from);
    from.dispose();
    to.dispose();
    this.buffer.dispose();
    this.buffer = larger;
  }
}
