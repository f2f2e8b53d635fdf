import {
  engine,
  getKernelsForBackend,
  type KernelFunc,
  registerBackend,
  registerKernel,
  type Tensor,
  type TensorInfo,
} from '@tensorflow/tfjs-core';
// The gradients of TF.js's ops, and the ops as methods of tensors: in Node, @tensorflow/tfjs-core comes without them.
import '#tfjs-gradients';
import { loadAddon } from '../device/addon.js';
import type { NativeTensor } from '../device/native_tensor.js';
import { fallback, type KernelArguments } from './fallback.js';
import { nativeKernels } from './kernels/index.js';
import { BACKEND, NativeBackend, type NumericType } from './native_backend.js';

// Importing this file registers the TF.js backend `native`. `tf.setBackend('native')` makes it the active one; a
// program that sets none gets it when TF.js looks for one, for it comes before `cpu` and behind the backends of
// tfjs-node: whoever has chosen another backend by importing it keeps that.
const PRIORITY = 2;

export type { KernelArguments } from './fallback.js';
export { fallbackCounts } from './fallback.js';
export { BACKEND, NativeBackend, type NumericType } from './native_backend.js';

function register(): void {
  const factory = () => {
    // Where the addon does not load, TF.js is to know before the first tensor: it warns and takes another backend.
    loadAddon();
    return new NativeBackend();
  };
  if (!registerBackend(BACKEND, factory, PRIORITY)) return;
  for (const { kernelName } of getKernelsForBackend('cpu')) {
    const native = nativeKernels[kernelName];
    const kernelFunc = (args: KernelArguments) => native?.(args) ?? fallback(kernelName, args);
    registerKernel({ kernelName, backendName: BACKEND, kernelFunc: kernelFunc as unknown as KernelFunc });
  }
}

register();

/** The one instance that TF.js uses; made when it is first asked for, whichever backend is active. */
export function nativeBackend(): NativeBackend {
  // Whoever asks for this backend gets the reason why there is none; TF.js only prints it.
  loadAddon();
  return engine().findBackend(BACKEND) as NativeBackend;
}

/**
 * The memory of a numeric tf.Tensor as the op table takes it, under `shape` (default: the tensor's) with as many
 * elements. It stays the tensor's: do not dispose it, do not keep it longer than the tensor. float32 tensors may be
 * stored in bfloat16 (`dtype` tells). A tensor of another backend is moved over first, as TF.js itself does.
 */
export function nativeOf(tensor: TensorInfo, shape: readonly number[] = tensor.shape): NativeTensor {
  return nativeBackend().native(tensor).reshaped(shape);
}

/**
 * Memory of the engine (a parameter, an activation), looked at as a tf.Tensor without a copy: reading it gives what
 * is there at that moment. The engine may update it in place, and disposing the tf.Tensor leaves the engine's buffer
 * alone. Clones and reshapes are copies, which the engine no longer changes; `tf.variable(view)` would share the
 * memory, so give it `view.clone()`.
 */
export function tensorOf<T extends Tensor>(native: NativeTensor): T {
  return tensorFrom<T>(nativeBackend().borrow(native));
}

/**
 * A result for a kernel to fill and return: `info` is what a kernelFunc hands to TF.js, `native` its memory, of
 * undefined contents.
 */
export function makeOutput(
  shape: readonly number[],
  dtype: NumericType = 'float32',
): { info: TensorInfo; native: NativeTensor } {
  return nativeBackend().output(shape, dtype);
}

/** A result that already lies in `native`, as a kernelFunc returns it: TF.js owns and disposes it from now on. */
export function adopt(native: NativeTensor): TensorInfo {
  return nativeBackend().adopt(native);
}

/** A tf.Tensor, tracked by the current `tf.tidy`, of a result made by {@link makeOutput} or {@link adopt}. */
export function tensorFrom<T extends Tensor>(info: TensorInfo): T {
  return engine().makeTensorFromTensorInfo(info, nativeBackend()) as T;
}
