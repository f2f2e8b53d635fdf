import { addon } from '../../engine/device/addon.js';
import { type FloatType, NativeTensor, release } from '../../engine/device/native_tensor.js';
import { zeros } from '../../engine/model/parameters.js';
import { fill } from '../../engine/ops/elementwise.js';
import { median } from '../statistics.js';

// node dist/benchmarks/card/offload.js [PARAMETERS] [DEVICE]: how fast AdamW is whose moments and remainders lie in the
// machine's memory, as with optimizer_offload: cpu, beside one that has them on the card. A line of JSON.

export interface OffloadedUpdate {
  seconds: number;
  seconds_on_card: number;
  /** Read, and as many written, of the machine's memory. */
  bytes_each_way: number;
  gb_per_s_each_way: number;
}

/** By what the moments are kept in. */
export interface OffloadedUpdates extends Record<FloatType, OffloadedUpdate> {
  parameters: number;
}

const ROUNDS = 9;
const [, , parameters = String(2 ** 26), device = 'cuda'] = process.argv;
const n = Number(parameters);
/** So many of the weights are compared. */
const COMPARED = Math.min(n, 1024);

/** Seconds of an update, as the median after one that is not counted; bytes of what may lie on the host; the last weights. */
function updates(state: FloatType, onHost: boolean): { seconds: number; moved: number; weights: Buffer } {
  const p = zeros(device, 'bfloat16', n);
  const g = NativeTensor.onHeap(device, 'float32', [n]);
  fill(g, 1e-3);
  const [m, v] = [1, 2].map(() => zeros(device, state, n, onHost));
  const remainder = zeros(device, 'int16', n, onHost);
  const update = NativeTensor.onHeap(device, 'float64', [4]);
  const options = { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0, seed: 0, place: 0 };
  /** Its bytes come back when all that was asked before is done. */
  const done = () => update.copyRaw(new Uint8Array(update.bytes), 0, 'toHost');
  const seconds = Array.from({ length: 1 + ROUNDS }, (_, i) => {
    // Step, learning rate, norm, clipping factor.
    update.write(Float64Array.of(i + 1, 1e-3, 1, 1));
    done();
    const start = performance.now();
    addon.ops.adamw({ p, remainder, m, v, g, update, n, ...options });
    done();
    return (performance.now() - start) / 1000;
  });
  const last = p.view([COMPARED], n - COMPARED);
  const weights = Buffer.alloc(last.bytes);
  last.copyRaw(weights, 0, 'toHost');
  const moved = m.bytes + v.bytes + remainder.bytes;
  release(last, p, g, m, v, remainder, update);
  return { seconds: median(seconds.slice(1)), moved, weights };
}

function compared(state: FloatType): OffloadedUpdate {
  const [onHost, onCard] = [true, false].map((where) => updates(state, where));
  if (!onHost.weights.some((byte) => byte !== 0) || !onHost.weights.equals(onCard.weights))
    throw new Error(`AdamW with ${state} moments on the host makes other weights than on the card`);
  return {
    seconds: onHost.seconds,
    seconds_on_card: onCard.seconds,
    bytes_each_way: onHost.moved,
    gb_per_s_each_way: onHost.moved / 1e9 / onHost.seconds,
  };
}

const both: OffloadedUpdates = {
  parameters: n,
  float32: compared('float32'),
  bfloat16: compared('bfloat16'),
};
console.log(JSON.stringify(both));
