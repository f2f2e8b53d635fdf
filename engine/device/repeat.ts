import { addon } from './addon.js';
import type { NativeTensor } from './native_tensor.js';

let kinds = 0;

/**
 * Work that comes again with the same numbers, as when one token is decoded after another. What takes hundreds of calls of
 * ops a device that records them (CUDA graphs: TSTRAIN_CUDA_GRAPHS=0 turns them off) then does at one, from the third time
 * on; others are called each time.
 */
export class Repeat {
  /** Of one object's work: another may have the same sizes. */
  private readonly kind = kinds++;

  /**
   * Calls `body`, or has the device do what it did. `key` says all that decides which ops it calls with which numbers, and
   * `tensors` are those from outside that may be others next time; what lives as long as this need not be among them.
   * `body` calls ops and does nothing else that must be done each time; it disposes what it makes. Whether it was called.
   *
   * @throws Error when it leaves memory allocated, copies, or takes memory from the heap
   */
  do(key: string, tensors: readonly NativeTensor[], body: () => void): boolean {
    const { device } = tensors[0];
    const handles = tensors.map(({ handle }) => handle);
    const next = addon.repeat(device, `${this.kind} ${key}`, handles);
    if (next === 'nothing') return false;
    if (next === 'call') {
      body();
      return true;
    }
    let whole = false;
    try {
      body();
      whole = true;
    } finally {
      addon.endRecording(device, whole);
    }
    return true;
  }
}
