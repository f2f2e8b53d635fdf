import { addon, type DeviceName } from '../device/addon.js';
import { keepOnThrow, NativeTensor, sizeOf } from '../device/native_tensor.js';
import { cast, fill, fillNormal } from '../ops/elementwise.js';
import type { LlamaConfig } from './config.js';
import { type Layout, type LayoutEntry, layoutOf, type ParameterGroup } from './layout.js';
import { causalLmSpecs } from './specs.js';

/** `bf16`: bfloat16 weights, activations and GEMMs; master weights, gradients, moments and statistics stay float32. */
export type Precision = 'fp32' | 'bf16';

/** A parameter, or several that lie next to each other, as one tensor that ops take. */
export interface Weight {
  /** A view of what arithmetic uses, with all rows that memory has (see {@link LayoutEntry.rows}). */
  value: NativeTensor;
  /** Where it lies in the flat buffers. */
  offset: number;
  trainable: boolean;
}

/** The parameters of a LLaMA model in flat buffers. */
export class Parameters {
  readonly layout: Layout;
  /** The weights that arithmetic uses, float32 or bfloat16 [layout.size]. */
  readonly flat: NativeTensor;
  /** What the optimizer updates, float32 [layout.trainableSize]: in fp32 the first part of `flat` itself. */
  readonly master: NativeTensor;
  private readonly weights: Weight[] = [];
  private readonly byName: ReadonlyMap<string, LayoutEntry>;

  constructor(
    readonly config: LlamaConfig,
    readonly device: DeviceName,
    readonly precision: Precision,
    specs: readonly ParameterGroup[] = causalLmSpecs(config),
  ) {
    this.layout = layoutOf(specs, addon.vocabularyStep(device));
    this.byName = new Map(this.layout.entries.map((entry) => [entry.name, entry]));
    const { size, trainableSize } = this.layout;
    if (precision === 'bf16') {
      this.flat = NativeTensor.onHeap(device, 'bfloat16', [size]);
      this.master = zeros(device, trainableSize);
      for (const { shape, offset, size, rows } of this.layout.entries) {
        const tail = this.flat.view([rows * sizeOf(shape.slice(1)) - size], offset + size);
        fill(tail, 0);
        tail.dispose();
      }
    } else {
      this.flat = zeros(device, size);
      this.master = this.flat.view([trainableSize]);
    }
  }

  /** The parameters of these names, which lie next to each other, as one tensor. */
  weight(...names: readonly string[]): Weight {
    const entries = names.map((name) => this.entry(name));
    const [first] = entries;
    const [, ...row] = first.shape;
    let rows = 0;
    for (const entry of entries) {
      if (entry.offset !== first.offset + rows * sizeOf(row))
        throw new Error(`${names.join(', ')} do not lie next to each other`);
      rows += entry.rows;
    }
    const weight = {
      value: this.flat.view([rows, ...row], first.offset),
      offset: first.offset,
      trainable: first.trainable,
    };
    this.weights.push(weight);
    return weight;
  }

  has(name: string): boolean {
    return this.byName.has(name);
  }

  /** One parameter, as exactly as it is kept: a view to be disposed by the caller: its master, if it has one. */
  tensor(name: string): NativeTensor {
    const { shape, offset, trainable } = this.entry(name);
    return (trainable ? this.master : this.flat).view(shape, offset);
  }

  get entries(): Layout['entries'] {
    return this.layout.entries;
  }

  /** Brings the weights that arithmetic uses up to date after the masters were written other than by the optimizer. */
  mastersChanged(): void {
    if (this.precision === 'fp32') return;
    const trained = this.flat.view([this.layout.trainableSize]);
    cast(trained, this.master);
    trained.dispose();
  }

  /** A new model's values: a function of `seed`, and of each parameter's place among the specifications. */
  initialize(seed: number): void {
    Array.from(this.initializing(seed));
  }

  /** {@link initialize}, a parameter at a time: a large model takes longer than a user waits for Ctrl-C. */
  *initializing(seed: number): Generator<string> {
    for (const [stream, { name, shape, initial }] of this.entries.entries()) {
      const tensor = this.tensor(name);
      const wide = tensor.dtype === 'float32' ? tensor : tensor.like(shape, 'float32');
      if ('normal' in initial) fillNormal(wide, { seed, stream, std: initial.normal });
      else fill(wide, initial.constant);
      if (wide !== tensor) {
        cast(tensor, wide);
        wide.dispose();
      }
      tensor.dispose();
      yield name;
    }
    this.mastersChanged();
  }

  dispose(): void {
    for (const { value } of this.weights) value.dispose();
    this.master.dispose();
    this.flat.dispose();
  }

  private entry(name: string) {
    const entry = this.byName.get(name);
    if (!entry) throw new Error(`the model has no parameter ${name}`);
    return entry;
  }
}

/**
 * Gradients of all trainable parameters, flat float32, with the views that backward adds to. zero() fills nothing: what is
 * left of an earlier step is written over by the first product of the next one, or filled where somebody else wants it.
 */
export class Gradients {
  private readonly all: NativeTensor;
  private readonly views = new Map<Weight, NativeTensor>();
  /** Those that hold an earlier step's values, and count as zeros. */
  private readonly stale = new Set<NativeTensor>();

  constructor(readonly parameters: Parameters) {
    this.all = zeros(parameters.device, parameters.layout.trainableSize);
  }

  get flat(): NativeTensor {
    for (const view of this.stale) fill(view, 0);
    this.stale.clear();
    return this.all;
  }

  /** What the gradient of a weight is added to, of its shape; undefined for a frozen one, whose gradient nobody wants. */
  of(weight: Weight): NativeTensor | undefined {
    const sum = this.forProduct(weight);
    if (sum && !sum.accumulate) fill(sum.dw, 0);
    return sum?.dw;
  }

  /** The same for a product, which writes over what is there where it need not accumulate. It must, then. */
  forProduct(weight: Weight): { dw: NativeTensor; accumulate: boolean } | undefined {
    if (!weight.trainable) return undefined;
    let dw = this.views.get(weight);
    if (!dw) {
      dw = this.all.view(weight.value.shape, weight.offset);
      // It stays when the pass that first wanted it fails.
      keepOnThrow(dw);
      this.views.set(weight, dw);
    }
    return { dw, accumulate: !this.stale.delete(dw) };
  }

  zero(): void {
    for (const view of this.views.values()) this.stale.add(view);
  }

  dispose(): void {
    for (const view of this.views.values()) view.dispose();
    this.all.dispose();
  }
}

/** A flat float32 heap tensor of zeros. The gaps that alignment leaves must be 0 too: norms are summed over them. */
export function zeros(device: DeviceName, size: number): NativeTensor {
  const t = NativeTensor.onHeap(device, 'float32', [size]);
  fill(t, 0);
  return t;
}
