import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
import {
  getKernel,
  type KernelFunc,
  type NamedAttrMap,
  type NamedTensorInfoMap,
  type TensorInfo,
} from '@tensorflow/tfjs-core';
import type { NativeBackend } from './native_backend.js';

// Kernels that have no native form run on TF.js's own CPU backend, over copies of the values.

export interface KernelArguments {
  inputs: NamedTensorInfoMap;
  attrs: NamedAttrMap;
  backend: NativeBackend;
}

const counts = new Map<string, number>();

/** How often each kernel has run on the CPU reference backend in this process, by kernel name. */
export function fallbackCounts(): Map<string, number> {
  return new Map(counts);
}

function count(kernel: string): void {
  const times = (counts.get(kernel) ?? 0) + 1;
  counts.set(kernel, times);
  if (times === 1 && process.env.TSTRAIN_DEBUG === '1')
    process.stderr.write(
      `tstrain: kernel ${kernel} has no native form for these inputs; it runs on TF.js's CPU backend\n`,
    );
}

/** An instance of its own: the tensors of a program that uses the `cpu` backend as well stay out of its sight. */
const reference = new MathBackendCPU();
// It would greet Node users with the advice to install another backend.
(reference as unknown as { firstUse: boolean }).firstUse = false;

/** Runs a kernel of the CPU reference backend: values are copied in and results copied back, whatever their type. */
export function fallback(
  kernel: string,
  { inputs, attrs, backend }: KernelArguments,
): TensorInfo | TensorInfo[] {
  count(kernel);
  const copies: TensorInfo[] = [];
  const copyIn = (input: TensorInfo): TensorInfo => {
    const copy = toReference(input, backend);
    copies.push(copy);
    // Some kernels read the rank, which only tensors have, as TF.js itself passes them.
    return Object.assign(copy, { rank: copy.shape.length });
  };
  // Most kernels take a map of tensors, Concat and its kin a list, the ragged ones lists inside the map.
  const copyAll = (value: unknown): unknown => {
    if (value === undefined || value === null) return value;
    if (Array.isArray(value)) return value.map(copyAll);
    if ('dataId' in (value as object)) return copyIn(value as TensorInfo);
    return Object.fromEntries(Object.entries(value as object).map(([name, v]) => [name, copyAll(v)]));
  };
  const run = getKernel(kernel, 'cpu').kernelFunc as KernelFunc;
  let results: TensorInfo[] = [];
  try {
    const result = run({ inputs: copyAll(inputs) as NamedTensorInfoMap, attrs, backend: reference });
    results = Array.isArray(result) ? result : [result];
    const outputs = results.map((output) => fromReference(output, backend));
    return Array.isArray(result) ? outputs : outputs[0];
  } finally {
    // An output may be one of the inputs: disposing an id that is gone does nothing.
    for (const { dataId } of [...copies, ...results]) reference.disposeData(dataId, true);
  }
}

function toReference(input: TensorInfo, backend: NativeBackend): TensorInfo {
  if (input.dtype !== 'complex64')
    return reference.makeTensorInfo(input.shape, input.dtype, backend.readSync(input.dataId));
  const { real, imag } = backend.parts(input);
  const info = reference.makeTensorInfo(input.shape, 'complex64');
  reference.data.get(info.dataId).complexTensorInfos = {
    // The parts keep the shape they were made with when the tensor itself is reshaped.
    real: toReference({ ...real, shape: input.shape }, backend),
    imag: toReference({ ...imag, shape: input.shape }, backend),
  };
  return info;
}

function fromReference({ dataId, shape, dtype }: TensorInfo, backend: NativeBackend): TensorInfo {
  const { values, complexTensorInfos } = reference.data.get(dataId);
  if (complexTensorInfos) {
    const { real, imag } = complexTensorInfos;
    return backend.storeComplex(fromReference(real, backend), fromReference(imag, backend));
  }
  // The storage may be of another type than the tensor (an int32 cast to float32 keeps its Int32Array): store()
  // goes by the tensor's.
  return backend.store(values ?? new Float32Array(0), shape, dtype);
}
