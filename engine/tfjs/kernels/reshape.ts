import { util } from '@tensorflow/tfjs-core';
import type { NativeKernel } from './kernel.js';

// The same values under another name or shape: one more reference to the data, nothing is copied.

const identity: NativeKernel = ({ inputs: { x }, backend }) => backend.share(x!);

const reshape: NativeKernel = ({ inputs: { x }, attrs, backend }) => {
  const size = util.sizeFromShape(x!.shape);
  const shape = util.inferFromImplicitShape(attrs.shape as number[], size);
  if (util.sizeFromShape(shape) !== size)
    throw new Error(
      `a tensor of shape [${x!.shape}] cannot take the shape [${shape}]: it has ${size} elements`,
    );
  return backend.share(x!, shape);
};

const expandDims: NativeKernel = ({ inputs: { input }, attrs, backend }) => {
  const shape = input!.shape.slice();
  const dim = attrs.dim as number;
  if (dim < -(shape.length + 1) || dim > shape.length)
    throw new Error(`expandDims: axis ${dim} of a tensor of rank ${shape.length}`);
  shape.splice(dim < 0 ? shape.length + dim + 1 : dim, 0, 1);
  return backend.share(input!, shape);
};

export const reshapeKernels: Record<string, NativeKernel> = {
  Identity: identity,
  Reshape: reshape,
  ExpandDims: expandDims,
};
