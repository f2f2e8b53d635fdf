import {
  engine,
  type NamedAttrMap,
  type NamedTensorMap,
  registerGradient,
  registerKernel,
  type Tensor,
  type TensorInfo,
} from '@tensorflow/tfjs-core';
import { type NativeTensor, releaseOnThrow, sizeOf } from '../../device/native_tensor.js';
import { adopt, BACKEND, nativeBackend, tensorFrom } from '../index.js';

// The tape forms (x.ts here): each op as a TF.js kernel of the backend `native` with a gradient, made of the explicit
// forward and backward functions, so that both forms give the same numbers.

/** An op in terms of native memory; arrays of tensors are in the order of `inputs` and of the results. */
interface TapeOp<Inputs extends string, Attributes extends NamedAttrMap> {
  name: string;
  forward(inputs: Record<Inputs, TensorInfo>, attributes: Attributes): NativeTensor[];
  /** What backward needs: inputs, then results (by position). */
  saved: { inputs: Inputs[]; results?: boolean[] };
  /**
   * The gradients of the inputs that have one, from those of the results. A function makes one that only costs when
   * it is asked for; one pass that makes several has to run at once, for TF.js asks for each on its own.
   */
  backward(
    dresults: Tensor[],
    saved: Tensor[],
    attributes: Attributes,
  ): Partial<Record<Inputs, NativeTensor | (() => NativeTensor)>>;
}

/** Registers the op with TF.js, and returns the function that runs it: all its results, as tf.Tensors. */
export function tapeOp<Inputs extends string, Attributes extends NamedAttrMap>(
  op: TapeOp<Inputs, Attributes>,
): (inputs: Record<Inputs, Tensor>, attributes: Attributes) => Tensor[] {
  registerKernel({
    kernelName: op.name,
    backendName: BACKEND,
    kernelFunc: ({ inputs, attrs }) =>
      releaseOnThrow(() => op.forward(inputs as Record<Inputs, TensorInfo>, attrs as Attributes)).map(adopt),
  });
  registerGradient({
    kernelName: op.name,
    inputsToSave: op.saved.inputs,
    outputsToSave: op.saved.results,
    gradFunc: (dresults, saved, attrs) => {
      const dys = [dresults].flat();
      const made = releaseOnThrow(() => op.backward(dys, saved, attrs as Attributes));
      const gradients = Object.entries(made) as [Inputs, NativeTensor | (() => NativeTensor)][];
      const known = (gradient: NativeTensor) =>
        onceDifferentiable(op.name, tensorFrom(adopt(gradient)), [...dys, ...saved]);
      return Object.fromEntries(
        gradients.map(([input, gradient]) => {
          if (typeof gradient === 'function') return [input, () => known(releaseOnThrow(gradient))];
          const tensor = known(gradient);
          return [input, () => tensor.clone()];
        }),
      );
    },
  });
  return (inputs, attributes) =>
    engine().runKernel(op.name, inputs as NamedTensorMap, attributes) as unknown as Tensor[];
}

// Gradients are made out of TF.js's sight. Passing them through a kernel tells its tape what they were made of, so that
// a second derivative is refused; it would otherwise lack terms without a word.
const GRADIENT = 'NativeGradient';
registerKernel({
  kernelName: GRADIENT,
  backendName: BACKEND,
  kernelFunc: ({ inputs }) => nativeBackend().share(inputs.gradient!),
});
registerGradient({
  kernelName: GRADIENT,
  gradFunc: (_dy, _saved, { op }) => {
    throw new Error(`${op} has no second derivative`);
  },
});

/** `gradient` again, which TF.js's tape takes for a function of the tensors `of` that has no derivative. */
export function onceDifferentiable(op: string, gradient: Tensor, of: readonly Tensor[]): Tensor {
  const inputs = { gradient, ...Object.fromEntries(of.map((tensor, i) => [`of${i}`, tensor])) };
  return engine().runKernel(GRADIENT, inputs, { op }) as Tensor;
}

/**
 * Reads int32 values and refuses those outside 0 … below − 1: kernels on a device cannot.
 * @throws Error naming op, tensor and place
 */
export function checkRange(op: string, name: string, tensor: TensorInfo, below: number): void {
  const values = nativeBackend().readSync(tensor.dataId) as Int32Array;
  const place = values.findIndex((value) => !(value >= 0 && value < below));
  if (place >= 0) throw new Error(`${op}: ${name}[${place}] is ${values[place]}, expected 0…${below - 1}`);
}

/** The shape [rows, dim] of a tensor […, dim]. */
export function asRows(tensor: TensorInfo): [number, number] {
  const dim = tensor.shape.at(-1) ?? 1;
  return [sizeOf(tensor.shape) / Math.max(1, dim), dim];
}
