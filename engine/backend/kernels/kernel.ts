import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { KernelArguments } from '../fallback.js';

/**
 * The native form of a TF.js kernel. It returns undefined, before it has allocated anything, for inputs it does not
 * cover (a dtype, a rank); those run on the CPU reference backend.
 */
export type NativeKernel = (args: KernelArguments) => TensorInfo | TensorInfo[] | undefined;
