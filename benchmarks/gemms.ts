import type { Addon } from '../engine/device/addon.js';
import { defaultDevice } from '../engine/device/addon.js';
import { NativeTensor } from '../engine/device/native_tensor.js';
import type { LlamaConfig } from '../engine/model/config.js';
import type { Precision } from '../engine/model/parameters.js';

/** C [m, n] = A·B as the op table takes it: A is [k, m] when transA, B is [n, k] when transB. */
export interface Gemm {
  name: string;
  m: number;
  n: number;
  k: number;
  transA: boolean;
  transB: boolean;
  /** A gradient of weights: float32 in every precision. */
  wide: boolean;
  /** How often a step does it. */
  times: number;
}

/**
 * Every matrix product of a training step over `tokens` positions, `labels` of which have a label: the time of these
 * alone bounds the step from below. Attention's own products, which no GEMM call does, are not among them.
 */
export function gemmsOf(config: LlamaConfig, tokens: number, labels: number): Gemm[] {
  const { hiddenSize: c, intermediateSize: f, vocabSize: v, headDim: d, numHiddenLayers: layers } = config;
  const q = config.numAttentionHeads * d;
  const kv = config.numKeyValueHeads * d;
  return [
    ...linear('qkv', tokens, c, q + 2 * kv, layers),
    ...linear('o', tokens, q, c, layers),
    ...linear('gate_up', tokens, c, 2 * f, layers),
    ...linear('down', tokens, f, c, layers),
    ...linear('head', labels, c, v, 1),
  ];
}

/** Forward y = x·Wᵀ, and backward dx = dy·W and dW = dyᵀ·x, with W [outputs, inputs]. */
function linear(name: string, rows: number, inputs: number, outputs: number, times: number): Gemm[] {
  return [
    { name, m: rows, n: outputs, k: inputs, transA: false, transB: true, wide: false, times },
    { name: `${name} dx`, m: rows, n: inputs, k: outputs, transA: false, transB: false, wide: false, times },
    { name: `${name} dW`, m: outputs, n: inputs, k: rows, transA: true, transB: false, wide: true, times },
  ];
}

/** Multiply and add count two. */
export function gemmFlops({ m, n, k }: Pick<Gemm, 'm' | 'n' | 'k'>): number {
  return 2 * m * n * k;
}

/** Times matrix products through the op table, on buffers made once for the largest of them. */
export class GemmTimer {
  private readonly a: NativeTensor;
  private readonly b: NativeTensor;
  private readonly c: NativeTensor;
  private readonly wideC: NativeTensor;

  constructor(
    private readonly addon: Addon,
    gemms: readonly Gemm[],
    precision: Precision,
  ) {
    const dtype = precision === 'bf16' ? 'bfloat16' : 'float32';
    const most = (size: (g: Gemm) => number) => Math.max(1, ...gemms.map(size));
    const random = (numel: number) => {
      const wide = NativeTensor.onHeap(defaultDevice(), 'float32', [numel]);
      addon.ops.fill_normal({ y: wide, n: numel, seed: 1, stream: 0, place: 0, std: 0.02 });
      if (dtype === 'float32') return wide;
      const narrow = NativeTensor.onHeap(defaultDevice(), dtype, [numel]);
      addon.ops.cast({ y: narrow, x: wide, n: numel });
      wide.dispose();
      return narrow;
    };
    this.a = random(most((g) => g.m * g.k));
    this.b = random(most((g) => g.k * g.n));
    this.c = NativeTensor.onHeap(defaultDevice(), dtype, [most((g) => (g.wide ? 0 : g.m * g.n))]);
    this.wideC = NativeTensor.onHeap(defaultDevice(), 'float32', [most((g) => (g.wide ? g.m * g.n : 0))]);
  }

  /** Seconds of one product, the mean over at least `seconds` of them. */
  time(gemm: Gemm, seconds: number): number {
    const { m, n, k, transA, transB, wide } = gemm;
    const c = wide ? this.wideC : this.c;
    const run = () =>
      this.addon.ops.gemm({
        c,
        a: this.a,
        b: this.b,
        m,
        n,
        k,
        trans_a: transA,
        trans_b: transB,
      });
    return timeRepeated(run, seconds, this.settle);
  }

  /** Waits for a device that has memory of its own: an element comes back when all before it is done. */
  get settle(): (() => void) | undefined {
    if (this.addon.ownMemory(defaultDevice()).total === 0) return undefined;
    const byte = new Uint8Array(this.a.elementBytes);
    return () => this.a.copyRaw(byte, 0, 'toHost');
  }

  dispose(): void {
    for (const tensor of [this.a, this.b, this.c, this.wideC]) tensor.dispose();
  }
}

/**
 * Mean seconds of one call: after one untimed call, calls until `seconds` have passed. `settle`: waits for a device that
 * works while calls return; then twice as many calls each time, until they take as long.
 */
export function timeRepeated(run: () => void, seconds: number, settle?: () => void): number {
  run();
  if (settle) {
    settle();
    for (let calls = 1; ; calls *= 2) {
      const start = performance.now();
      for (let i = 0; i < calls; i++) run();
      settle();
      const elapsed = (performance.now() - start) / 1000;
      if (elapsed >= seconds) return elapsed / calls;
    }
  }
  const start = performance.now();
  let calls = 0;
  let elapsed: number;
  do {
    run();
    calls++;
    elapsed = (performance.now() - start) / 1000;
  } while (elapsed < seconds);
  return elapsed / calls;
}
