import { type DeviceName, isMeta } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';

/** What of a step's micro-batch the host keeps until it looks. */
interface Share {
  /** What a term counts in the step's mean. */
  weight: number;
  /** Rows in the data file, for messages. */
  rows: Int32Array;
}

/** What a step has left on the device, once the host has looked. */
export interface StepResult {
  step: number;
  /** The global 2-norm of the gradient, before clipping. */
  gradNorm: number;
  /** Of each micro-batch: what it adds to the mean of the step's loss, and of each measure. */
  means: number[][];
  rows: Int32Array[];
}

/** Float64 values that are read at once: some thousand steps. */
const CAPACITY = 8192;

/**
 * Where steps leave their sums and norms on the device until the host looks: a step that runs waits for nobody. What a
 * step needs is handed out by begin(); look() reads all of it in one copy.
 */
export class StepRecord {
  private values: NativeTensor;
  private used = 0;
  private readonly pending: { step: number; start: number; shares: Share[] }[] = [];

  /** `width`: the sums of a micro-batch. */
  constructor(
    device: DeviceName,
    private readonly width: number,
  ) {
    this.values = NativeTensor.onHeap(device, 'float64', [CAPACITY]);
  }

  /** Whether there is room for a step of so many micro-batches; otherwise look() makes it. */
  hasRoom(batches: number): boolean {
    return this.used + 1 + batches * this.width <= this.values.size;
  }

  /**
   * Room for the results of a step, views to be disposed when it has been given to the device: Σ g² [1], and the sums
   * of its micro-batches [batches, width].
   */
  begin(step: number, shares: Share[]): { squares: NativeTensor; sums: NativeTensor } {
    const start = this.used;
    const size = 1 + shares.length * this.width;
    if (start === 0 && size > this.values.size) {
      const { device } = this.values;
      this.values.dispose();
      this.values = NativeTensor.onHeap(device, 'float64', [size]);
    }
    this.used += size;
    this.pending.push({ step, start, shares });
    return {
      squares: this.values.view([1], start),
      sums: this.values.view([shares.length, this.width], start + 1),
    };
  }

  /** The results of all steps since the last look; waits until the device has them. */
  look(): StepResult[] {
    if (this.pending.length === 0) return [];
    const all = this.values.view([this.used]);
    const values = isMeta(all.device) ? new Float64Array(all.size) : (all.read() as Float64Array);
    all.dispose();
    const results = this.pending.map(({ step, start, shares }) => ({
      step,
      gradNorm: Math.sqrt(values[start]),
      means: shares.map(({ weight }, batch) =>
        Array.from({ length: this.width }, (_, i) => weight * values[start + 1 + batch * this.width + i]),
      ),
      rows: shares.map(({ rows }) => rows),
    }));
    this.pending.length = 0;
    this.used = 0;
    return results;
  }

  dispose(): void {
    this.values.dispose();
  }
}
