import { type NativeTensor, release } from '../device/native_tensor.js';
import { addBias, addColumns, biasBackward, takeColumns } from '../ops/columns.js';
import { axpby } from '../ops/elementwise.js';
import { addLinearBackwardInput, linear, linearBackwardInput, linearBackwardWeight } from '../ops/linear.js';
import type { Gradients, Parameters, Weight } from './parameters.js';
import { biasOf } from './specs.js';

/** Where backward finds what the gradient of a weight is added to, if it is wanted at all. */
export type GradientOf = Pick<Gradients, 'of' | 'forProduct'>;

/** A low-rank update (LoRA, arXiv 2106.09685) of rows offset … of a weight: scale·B·A, with A [r, in], B [rows, r]. */
export interface Adapter {
  a: Weight;
  b: Weight;
  scale: number;
  offset: number;
}

/** y = x·Wᵀ + b, W [out, in] being a weight and the updates of its adapters. Each knows whether it is trained. */
export class LinearLayer {
  constructor(
    readonly weight: Weight,
    private readonly bias?: Weight,
    private readonly adapters: readonly Adapter[] = [],
  ) {}

  get isTrained(): boolean {
    const adapted = this.adapters.flatMap(({ a, b }) => [a, b]);
    return [this.weight, this.bias, ...adapted].some((weight) => weight?.trainable);
  }

  /** y [rows, out] of x [rows, in], in x's type; `to` as linear() has it. */
  forward(
    x: NativeTensor,
    { into, addend }: { into?: NativeTensor; addend?: NativeTensor } = {},
  ): NativeTensor {
    // In bfloat16 what an adapter brings may be less than half a unit of the sum with the addend: added to that it would be
    // lost, so the addend then comes last.
    const addsMore = this.bias !== undefined || this.adapters.length > 0;
    const y = linear(x, this.weight.value, { into, addend: addsMore ? undefined : addend });
    if (this.bias) addBias(y, this.bias.value);
    for (const adapter of this.adapters) {
      const u = scaled(linear(x, adapter.a.value), adapter);
      const z = linear(u, adapter.b.value);
      addColumns(y, z, adapter.offset);
      release(u, z);
    }
    if (addend && addsMore) axpby(y, 1, y, 1, addend);
    return y;
  }

  /** dx [rows, in] of dy [rows, out]. */
  backwardInput(dy: NativeTensor): NativeTensor {
    const dx = linearBackwardInput(dy, this.weight.value);
    for (const adapter of this.adapters) {
      const dz = columnsOf(adapter, dy);
      const du = scaled(linearBackwardInput(dz, adapter.b.value), adapter);
      addLinearBackwardInput(dx, du, adapter.a.value);
      release(dz, du);
    }
    return dx;
  }

  /** Adds the gradients of what is trained here, for the x that went in. */
  backwardWeight(dy: NativeTensor, x: NativeTensor, gradients: GradientOf): void {
    const of = gradients.forProduct(this.weight);
    if (of) linearBackwardWeight(of.dw, dy, x, of);
    const db = this.bias && gradients.of(this.bias);
    if (db) biasBackward(db, dy);
    for (const adapter of this.adapters) {
      const dz = columnsOf(adapter, dy);
      const [da, dB] = [adapter.a, adapter.b].map((weight) => gradients.forProduct(weight));
      if (dB) {
        const u = scaled(linear(x, adapter.a.value), adapter);
        linearBackwardWeight(dB.dw, dz, u, dB);
        u.dispose();
      }
      if (da) {
        const du = scaled(linearBackwardInput(dz, adapter.b.value), adapter);
        linearBackwardWeight(da.dw, du, x, da);
        du.dispose();
      }
      dz.dispose();
    }
  }
}

/** The layer of these weights, which are one matrix: with the biases and adapters that the model has for them. */
export function linearLayerOf(parameters: Parameters, names: readonly string[]): LinearLayer {
  const biases = names.map(biasOf).filter((name) => parameters.has(name));
  const adapters: Adapter[] = [];
  let offset = 0;
  for (const name of names) {
    const [a, b] = (['A', 'B'] as const).map((part) =>
      parameters.entries.find(({ adapter }) => adapter?.of === name && adapter.part === part),
    );
    if (a && b) {
      const { scale } = a.adapter!;
      adapters.push({ a: parameters.weight(a.name), b: parameters.weight(b.name), scale, offset });
    }
    offset += parameters.entries.find((entry) => entry.name === name)!.shape[0];
  }
  const bias = biases.length > 0 ? parameters.weight(...biases) : undefined;
  return new LinearLayer(parameters.weight(...names), bias, adapters);
}

function scaled(u: NativeTensor, { scale }: Adapter): NativeTensor {
  axpby(u, scale, u);
  return u;
}

/** The columns of dy that an adapter's rows made. */
function columnsOf({ b, offset }: Adapter, dy: NativeTensor): NativeTensor {
  return takeColumns(dy, offset, b.value.shape[0]);
}
