import { backend_util, type TensorInfo } from '@tensorflow/tfjs-core';
import { addon } from '../../device/addon.js';
import { type NativeTensor, sizeOf } from '../../device/native_tensor.js';
import type { KernelArguments } from '../fallback.js';
import { type NativeKernel, widened } from './kernel.js';
import { broadcastStrides, denseStrides, loopOver } from './strides.js';

// C[…, m, n] = A[…, m, k] · B[…, k, n], either side transposed by flag, batch axes broadcast.

interface Product {
  shape: number[];
  m: number;
  n: number;
  k: number;
  /** For each matrix of the result, which one of A and which one of B make it. */
  pairs: [number, number][];
  transposeA: boolean;
  transposeB: boolean;
}

function productOf(a: TensorInfo, b: TensorInfo, transposeA: boolean, transposeB: boolean): Product {
  const [aRows, aColumns] = a.shape.slice(-2);
  const [bRows, bColumns] = b.shape.slice(-2);
  const [m, k] = transposeA ? [aColumns, aRows] : [aRows, aColumns];
  const [inner, n] = transposeB ? [bColumns, bRows] : [bRows, bColumns];
  if (inner !== k)
    throw new Error(
      `matMul: inner sizes ${k} and ${inner} of [${a.shape}] and [${b.shape}] differ ` +
        `(transposeA=${transposeA}, transposeB=${transposeB})`,
    );
  const aBatch = a.shape.slice(0, -2);
  const bBatch = b.shape.slice(0, -2);
  const batch = backend_util.assertAndGetBroadcastShape(aBatch, bBatch);
  const shape = [...batch, m, n];
  // Rows of several matrices against one B are rows of one tall matrix.
  if (sizeOf(bBatch) === 1 && !transposeA)
    return { shape, m: sizeOf(batch) * m, n, k, pairs: [[0, 0]], transposeA, transposeB };
  const aStrides = broadcastStrides(aBatch, batch);
  const bStrides = broadcastStrides(bBatch, batch);
  let pairs: [number, number][] = [[0, 0]];
  for (let axis = 0; axis < batch.length; axis++)
    pairs = pairs.flatMap(([i, j]) =>
      Array.from({ length: batch[axis] }, (_, t): [number, number] => [
        i + t * aStrides[axis],
        j + t * bStrides[axis],
      ]),
    );
  return { shape, m, n, k, pairs, transposeA, transposeB };
}

function multiply(c: NativeTensor, a: NativeTensor, b: NativeTensor, product: Product): void {
  const { m, n, k, pairs, transposeA, transposeB } = product;
  if (c.size === 0) return;
  if (k === 0) {
    addon.ops.fill({ y: c, n: c.size, value: 0 });
    return;
  }
  if (pairs.length === 1) {
    addon.ops.gemm({ c, a, b, m, n, k, trans_a: transposeA, trans_b: transposeB });
    return;
  }
  pairs.forEach(([i, j], at) => {
    const views = [c.view([m, n], at * m * n), a.view([m, k], i * m * k), b.view([k, n], j * k * n)];
    const [ci, ai, bi] = views;
    addon.ops.gemm({
      c: ci,
      a: ai,
      b: bi,
      m,
      n,
      k,
      trans_a: transposeA,
      trans_b: transposeB,
    });
    for (const view of views) view.dispose();
  });
}

function matMul({
  inputs,
  attrs,
  backend,
}: KernelArguments): { info: TensorInfo; native: NativeTensor } | undefined {
  const a = inputs.a!;
  const b = inputs.b!;
  if (a.dtype !== 'float32' || b.dtype !== 'float32') return undefined;
  const product = productOf(a, b, Boolean(attrs.transposeA), Boolean(attrs.transposeB));
  const output = backend.output(product.shape, 'float32');
  const [x, y] = [backend.native(a), backend.native(b)];
  // Two bfloat16 matrices multiply as such; with float32 on one side, the other is widened.
  if (x.dtype === y.dtype) multiply(output.native, x, y, product);
  else widened([x, y], (x, y) => multiply(output.native, x, y, product));
  return output;
}

const fusedMatMul: NativeKernel = (args) => {
  const { inputs, attrs, backend } = args;
  const { bias } = inputs;
  if (attrs.activation && attrs.activation !== 'linear') return undefined;
  if (!bias) return matMul(args)?.info;
  // A bias of one row is what layers have; TF.js allows other shapes too.
  if (bias.dtype !== 'float32' || sizeOf(bias.shape) !== bias.shape.at(-1)) return undefined;
  const output = matMul(args);
  if (!output) return undefined;
  const { info, native } = output;
  const loop = loopOver(info.shape, denseStrides(info.shape), broadcastStrides(bias.shape, info.shape))!;
  const [a_strides, b_strides] = loop.strides;
  widened([backend.native(bias)], (row) =>
    addon.ops.binary({ y: native, a: native, b: row, op: 'add', shape: loop.shape, a_strides, b_strides }),
  );
  return info;
};

export const matMulKernels: Record<string, NativeKernel> = {
  BatchMatMul: (args) => matMul(args)?.info,
  _FusedMatMul: fusedMatMul,
};
