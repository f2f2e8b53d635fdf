// Registers TF.js's CPU backend and its kernels.
import '@tensorflow/tfjs-backend-cpu';
import {
  env,
  findBackend,
  getKernel,
  type KernelBackend,
  type KernelFunc,
  type NamedAttrMap,
  type NamedTensorInfoMap,
  type TensorInfo,
} from '@tensorflow/tfjs-core';
import type { NativeBackend } from './native_backend.js';

// Kernels that have no native form run on TF.js's own CPU backend, over copies of the values. It may be in use by the
// program as well: what is copied in goes again, and no other tensor of it is touched.

const CPU = 'cpu';

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

/** Runs a kernel of the CPU backend: values are copied in and results copied back, whatever their type. */
export function fallback(
  kernel: string,
  { inputs, attrs, backend }: KernelArguments,
): TensorInfo | TensorInfo[] {
  count(kernel);
  const cpu = cpuBackend();
  const run = (name: string, values: NamedTensorInfoMap, attributes: NamedAttrMap) =>
    (getKernel(name, CPU).kernelFunc as KernelFunc)({ inputs: values, attrs: attributes, backend: cpu });
  /** All that must go again. */
  const held: TensorInfo[] = [];
  const hold = (info: TensorInfo): TensorInfo => {
    held.push(info);
    // Some kernels read the rank, which only tensors have, as TF.js itself passes them.
    return Object.assign(info, { rank: info.shape.length });
  };
  const copyIn = ({ dataId, shape, dtype }: TensorInfo): TensorInfo =>
    hold({ dataId: cpu.write(backend.readSync(dataId), shape, dtype), shape, dtype });
  const copyComplex = (input: TensorInfo): TensorInfo => {
    const { real, imag } = backend.parts(input);
    // The parts keep the shape they were made with when the tensor itself is reshaped.
    const [re, im] = [real, imag].map((part) => copyIn({ ...part, shape: input.shape }));
    return hold(run('Complex', { real: re, imag: im }, {}) as TensorInfo);
  };
  // Most kernels take a map of tensors, Concat and its kin a list, the ragged ones lists inside the map.
  const copyAll = (value: unknown): unknown => {
    if (value === undefined || value === null) return value;
    if (Array.isArray(value)) return value.map(copyAll);
    if ('dataId' in (value as object)) {
      const input = value as TensorInfo;
      return input.dtype === 'complex64' ? copyComplex(input) : copyIn(input);
    }
    return Object.fromEntries(Object.entries(value as object).map(([name, v]) => [name, copyAll(v)]));
  };
  const copyOut = ({ dataId, shape, dtype }: TensorInfo): TensorInfo =>
    backend.store(cpu.readSync(dataId), shape, dtype);
  try {
    const result = run(kernel, copyAll(inputs) as NamedTensorInfoMap, attrs);
    held.push(...[result].flat());
    return Array.isArray(result) ? result.map(copyOut) : copyOut(result);
  } finally {
    // An output may be one of the inputs: disposing an id that is gone does nothing.
    for (const { dataId } of held) cpu.disposeData(dataId, true);
  }
}

let greeted: KernelBackend | undefined;

/** The one instance that TF.js has of its CPU backend, made when it is first needed. */
function cpuBackend(): KernelBackend {
  const cpu = findBackend(CPU);
  if (cpu === null)
    throw new Error(`TF.js's ${CPU} backend was removed: kernels without a native form need it`);
  if (cpu === greeted) return cpu;
  // With its first tensor it advises Node users to install another backend, but not in production mode.
  const isProduction = env().getBool('PROD');
  env().set('PROD', true);
  cpu.disposeData(cpu.write(new Float32Array(1), [1], 'float32'));
  env().set('PROD', isProduction);
  greeted = cpu;
  return cpu;
}
