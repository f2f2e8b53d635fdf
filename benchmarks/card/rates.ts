/** What a card can do: by its maker's data sheet, and as others have measured it. FLOPs/s and bytes/s. */
export interface Rates {
  name: string;
  gigabytes: number;
  /** Dense bfloat16 with float32 sums. */
  peakFlops: number;
  peakBandwidth: number;
  /** What kernels that only move memory reach. */
  bandwidth: number;
  /** Of the peak: what the matrix products of a model reach, by its hidden size. */
  gemm: (hidden: number) => number;
  /** Flash attention over rows of 512 by mma.sync, heads of 128. */
  attention: { forward: number; backward: number };
}

const T = 1e12;
const byHidden = (small: number, middle: number, large: number) => (hidden: number) =>
  hidden < 2048 ? small : hidden < 4096 ? middle : large;

/**
 * Peaks are those of NVIDIA's data sheets (H100 SXM5, H200 SXM, A100 80 GB SXM, RTX 4090), without sparsity; GeForce
 * cards do bfloat16 with float32 sums at half the rate that is printed for float16 sums. What is reached is from public
 * measurements of others: cuBLAS and copies on H100 and A100, RMSNorm on H200, FlashAttention-2 on A100 and H100; of the
 * 4090, and of small models, it is estimated from these.
 */
export const CARDS: readonly Rates[] = [
  {
    name: 'H100',
    gigabytes: 80,
    peakFlops: 989.4 * T,
    peakBandwidth: 3.35 * T,
    bandwidth: 2.8 * T,
    gemm: byHidden(0.6, 0.7, 0.75),
    attention: { forward: 180 * T, backward: 110 * T },
  },
  {
    name: 'H200',
    gigabytes: 141,
    peakFlops: 989.4 * T,
    peakBandwidth: 4.8 * T,
    bandwidth: 3.9 * T,
    gemm: byHidden(0.6, 0.7, 0.75),
    attention: { forward: 180 * T, backward: 110 * T },
  },
  {
    name: 'A100',
    gigabytes: 80,
    peakFlops: 312 * T,
    peakBandwidth: 2.039 * T,
    bandwidth: 1.7 * T,
    gemm: byHidden(0.68, 0.77, 0.79),
    attention: { forward: 130 * T, backward: 80 * T },
  },
  {
    name: 'RTX 4090',
    gigabytes: 24,
    peakFlops: 165.2 * T,
    peakBandwidth: 1.008 * T,
    bandwidth: 0.9 * T,
    gemm: byHidden(0.8, 0.89, 0.89),
    attention: { forward: 100 * T, backward: 70 * T },
  },
];

/** Heads of 64 keep the tensor cores less busy: half as many products for each exponential. */
export const SMALL_HEADS = 0.8;

/** Seconds of the host for a call of an op: JavaScript and the addon, as docs/cuda.md has them measured; and the driver's. */
export const CALL = 4e-6;
export const DRIVER_LAUNCH = 2.5e-6;

/** Seconds that no launch is shorter than, the gap before the next included. */
export const LEAST_LAUNCH = 2.5e-6;

/** Peaks in TFLOP/s, dense bfloat16 with float32 sums, by a part of a card's name, of which the first that fits counts. */
export const PEAKS: readonly (readonly [card: string, tflops: number])[] = [
  ['H100 PCIe', 756],
  ['H100 NVL', 835],
  ['H100', 989.4],
  ['H200', 989.4],
  ['GH200', 989.4],
  ['A100', 312],
  ['L40S', 362],
  ['RTX 4090', 165.2],
  ['RTX 3090', 71],
];

/** Of a card by its full name, FLOPs/s; undefined of one that is not among them. */
export function peakOf(card: string): number | undefined {
  const found = PEAKS.find(([name]) => card.includes(name));
  return found && found[1] * T;
}
