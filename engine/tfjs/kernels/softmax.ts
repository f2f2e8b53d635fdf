import { addon } from '../../device/addon.js';
import { type NativeKernel, widened } from './kernel.js';

// Softmax over the last axis.

const softmax: NativeKernel = ({ inputs, attrs, backend }) => {
  const x = inputs.logits!;
  const dim = x.shape.at(-1);
  const axis = attrs.dim as number;
  if (x.dtype !== 'float32' || !dim || (axis !== -1 && axis !== x.shape.length - 1)) return undefined;
  const { info, native } = backend.output(x.shape, 'float32');
  widened([backend.native(x)], (x) => addon.ops.softmax({ y: native, x, rows: x.size / dim, dim }));
  return info;
};

export const softmaxKernels: Record<string, NativeKernel> = { Softmax: softmax };
