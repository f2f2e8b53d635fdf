import { binaryKernels } from './binary.js';
import { castKernels } from './cast.js';
import { copyKernels } from './copy.js';
import { fillKernels } from './fill.js';
import { gatherKernels } from './gather.js';
import type { NativeKernel } from './kernel.js';
import { matMulKernels } from './matmul.js';
import { reduceKernels } from './reduce.js';
import { reshapeKernels } from './reshape.js';
import { softmaxKernels } from './softmax.js';
import { unaryKernels } from './unary.js';

/** The kernels that have a native form, by TF.js's names. */
export const nativeKernels: Record<string, NativeKernel> = {
  ...reshapeKernels,
  ...castKernels,
  ...fillKernels,
  ...binaryKernels,
  ...unaryKernels,
  ...reduceKernels,
  ...matMulKernels,
  ...copyKernels,
  ...gatherKernels,
  ...softmaxKernels,
};
