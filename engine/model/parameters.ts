import { addon, type DeviceName } from '../device/addon.js';
import {
  type FloatStore,
  type FloatType,
  keepOnThrow,
  NativeTensor,
  sizeOf,
} from '../device/native_tensor.js';
import { cast, fill, fillNormal } from '../ops/elementwise.js';
import type { LlamaConfig } from './config.js';
import { type Layout, type LayoutEntry, layoutOf, type ParameterGroup } from './layout.js';
import { causalLmSpecs } from './specs.js';
import { SplitTensor } from './split_tensor.js';

/**
 * `bf16`: bfloat16 weights, activations and GEMMs. What the optimizer updates are float32 values all the same, of which the
 * weights are the nearest bfloat16; statistics are float32, gradients and moments what they are asked to be.
 */
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
  /** In bf16, what the weights that are trained leave of their float32 values: int16 [layout.trainableSize]. */
  readonly remainder: NativeTensor | undefined;
  /** What is trained, as the float32 values that the optimizer updates [layout.trainableSize]. */
  readonly master: FloatStore;
  private readonly weights: Weight[] = [];
  private readonly byName: ReadonlyMap<string, LayoutEntry>;

  constructor(
    readonly config: LlamaConfig,
    readonly device: DeviceName,
    readonly precision: Precision,
    {
      specs = causalLmSpecs(config),
      remainderOnHost = false,
    }: { specs?: readonly ParameterGroup[]; remainderOnHost?: boolean } = {},
  ) {
    this.layout = layoutOf(specs, addon.vocabularyStep(device));
    this.byName = new Map(this.layout.entries.map((entry) => [entry.name, entry]));
    const { size, trainableSize } = this.layout;
    this.flat = zeros(device, precision === 'bf16' ? 'bfloat16' : 'float32', size);
    if (precision === 'bf16') this.remainder = zeros(device, 'int16', trainableSize, remainderOnHost);
    const trained = this.flat.view([trainableSize]);
    this.master = this.remainder ? new SplitTensor(trained, this.remainder.view([trainableSize])) : trained;
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

  /** One parameter, as exactly as it is kept: a view to be disposed by the caller. */
  tensor(name: string): NativeTensor | SplitTensor {
    const { shape, offset, trainable } = this.entry(name);
    const value = this.flat.view(shape, offset);
    if (this.precision === 'fp32') return value;
    return new SplitTensor(value, trainable ? this.remainder!.view(shape, offset) : undefined);
  }

  /** Sets one parameter to the values of a float32 tensor. */
  take(name: string, x: NativeTensor): void {
    const to = this.tensor(name);
    if (to instanceof SplitTensor) to.take(x);
    else cast(to, x);
    to.dispose();
  }

  get entries(): Layout['entries'] {
    return this.layout.entries;
  }

  /** A new model's values: a function of `seed`, and of each parameter's place among the specifications. */
  initialize(seed: number): void {
    Array.from(this.initializing(seed));
  }

  /** {@link initialize}, a parameter at a time: a large model takes longer than a user waits for Ctrl-C. */
  *initializing(seed: number): Generator<string> {
    for (const [stream, { name, initial }] of this.entries.entries()) {
      const tensor = this.tensor(name);
      const make = (values: NativeTensor, place = 0) => {
        if ('normal' in initial) fillNormal(values, { seed, stream, place, std: initial.normal });
        else fill(values, initial.constant);
      };
      if (tensor instanceof SplitTensor) tensor.fill(make);
      else make(tensor);
      tensor.dispose();
      yield name;
    }
  }

  dispose(): void {
    for (const { value } of this.weights) value.dispose();
    this.master.dispose();
    this.remainder?.dispose();
    this.flat.dispose();
  }

  private entry(name: string) {
    const entry = this.byName.get(name);
    if (!entry) throw new Error(`the model has no parameter ${name}`);
    return entry;
  }
}

/**
 * Gradients of all trainable parameters, flat, with the views that backward adds to. zero() fills nothing: what is left of
 * an earlier step is written over by the first product of the next one, or filled where somebody else wants it.
 */
export class Gradients {
  /** Their memory, whatever it holds. */
  readonly all: NativeTensor;
  private readonly views = new Map<Weight, NativeTensor>();
  /** Those that hold an earlier step's values, and count as zeros. */
  private readonly stale = new Set<NativeTensor>();

  /** bfloat16 is for parameters in bf16: each product that adds to a gradient then rounds it once. */
  constructor(
    readonly parameters: Parameters,
    dtype: FloatType = 'float32',
  ) {
    this.all = zeros(parameters.device, dtype, parameters.layout.trainableSize);
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

  /** What a pass that reaches them all does first: writes over each, adds to each, or some of both. */
  get next(): 'write' | 'add' | 'both' {
    if (this.stale.size === 0) return 'add';
    return this.stale.size === this.views.size ? 'write' : 'both';
  }

  /** Such a pass was done without a call of {@link forProduct}. */
  written(): void {
    this.stale.clear();
  }

  dispose(): void {
    for (const view of this.views.values()) view.dispose();
    this.all.dispose();
  }
}

/**
 * A flat tensor of zeros, on the heap or the host. The gaps that alignment leaves must be 0 too: norms are summed over
 * them.
 */
export function zeros(
  device: DeviceName,
  dtype: FloatType | 'int16',
  size: number,
  onHost = false,
): NativeTensor {
  const t = onHost ? NativeTensor.onHost(device, dtype, [size]) : NativeTensor.onHeap(device, dtype, [size]);
  for (let offset = 0; offset < size; offset += PIECE) {
    const piece = t.view([Math.min(PIECE, size - offset)], offset);
    fill(piece, 0);
    piece.dispose();
  }
  return t;
}

/**
 * What is taken of memory at a time, for a signal is heard between two ops: pages are made when they are first written,
 * 256 MiB of them in up to a second.
 */
const PIECE = 2 ** 26;
