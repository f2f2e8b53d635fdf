import { addon } from '../../engine/device/addon.js';
import { NativeTensor } from '../../engine/device/native_tensor.js';
import { median } from '../statistics.js';

// node dist/benchmarks/card/launches.js [DEVICE]: how many of the smallest launches JavaScript queues in a second, and how
// many are done in one: fills of one element, beside fills of none, which end before the driver is called. A line of JSON.

const LAUNCHES = 1000;
const ROUNDS = 11;

const device = process.argv[2] ?? 'cuda';
const y = NativeTensor.onHeap(device, 'float32', [1]);
const byte = new Uint8Array(y.bytes);

/** Seconds of as many fills of `n` elements: until the last is queued, and until it is done. */
function fills(n: number): { queued: number; done: number } {
  // All that was asked before is done when bytes have come back.
  y.copyRaw(byte, 0, 'toHost');
  const start = performance.now();
  for (let i = 0; i < LAUNCHES; i++) addon.ops.fill({ y, n, value: i });
  const queued = performance.now();
  y.copyRaw(byte, 0, 'toHost');
  const done = performance.now();
  return { queued: (queued - start) / 1000, done: (done - start) / 1000 };
}

/** Calls in a second, as the median of rounds after one that is not counted. */
function rates(n: number): { queued_per_s: number; done_per_s: number } {
  fills(n);
  const rounds = Array.from({ length: ROUNDS }, () => fills(n));
  const rate = (seconds: number[]) => Math.round(LAUNCHES / median(seconds));
  return {
    queued_per_s: rate(rounds.map(({ queued }) => queued)),
    done_per_s: rate(rounds.map(({ done }) => done)),
  };
}

console.log(JSON.stringify({ launches: LAUNCHES, of_one_element: rates(1), of_none: rates(0) }));
y.dispose();
