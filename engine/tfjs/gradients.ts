import {
  broadcast_util,
  broadcastTo,
  cast,
  clone,
  concat,
  div,
  equal,
  type GradConfig,
  greater,
  greaterEqual,
  less,
  lessEqual,
  matMul,
  mul,
  type NamedAttrMap,
  neg,
  pad,
  reshape,
  slice,
  slice_util,
  split,
  square,
  stack,
  sub,
  sum,
  type Tensor,
  transpose,
  unsortedSegmentSum,
  unstack,
  util,
  where,
  zeros,
  zerosLike,
} from '@tensorflow/tfjs-core';
import { sizeOf } from '../device/native_tensor.js';

// In Node, @tensorflow/tfjs-core comes without gradients: those of the kernels that have a native form. Each is
// written in ops that have gradients themselves, so that second derivatives work as well.

type Gradients = Record<string, () => Tensor>;

/** One output: `inputs` and the `output` are what the gradient needs of the forward pass, in this order. */
function gradient(
  kernelName: string,
  inputs: string[],
  gradFunc: (dy: Tensor, saved: Tensor[], attrs: NamedAttrMap) => Gradients,
  output = false,
): GradConfig {
  return {
    kernelName,
    inputsToSave: inputs,
    outputsToSave: [output],
    gradFunc: gradFunc as GradConfig['gradFunc'],
  };
}

/** The gradient of a broadcast: summed over the repeated axes. */
function unbroadcast(dy: Tensor, shape: number[]): Tensor {
  const axes = broadcast_util.getReductionAxes(shape, dy.shape);
  return reshape(axes.length > 0 ? sum(dy, axes) : dy, shape);
}

const float = (x: Tensor) => cast(x, 'float32');

/** Two operands that broadcast; `da` and `db` give the gradients in the result's shape. */
function binary(
  kernelName: string,
  da: (dy: Tensor, a: Tensor, b: Tensor) => Tensor,
  db: (dy: Tensor, a: Tensor, b: Tensor) => Tensor,
): GradConfig {
  return gradient(kernelName, ['a', 'b'], (dy, [a, b]) => ({
    a: () => unbroadcast(da(dy, float(a), float(b)), a.shape),
    b: () => unbroadcast(db(dy, float(a), float(b)), b.shape),
  }));
}

const ofInput = (kernelName: string, dx: (dy: Tensor, x: Tensor) => Tensor, name = 'x') =>
  gradient(kernelName, [name], (dy, [x]) => ({ [name]: () => dx(dy, x) }));

const ofOutput = (kernelName: string, dx: (dy: Tensor, y: Tensor) => Tensor) =>
  gradient(kernelName, [], (dy, [y]) => ({ x: () => dx(dy, y) }), true);

/** `shape` with the reduced axes kept as 1, and their product. */
function keptShape(shape: number[], axis: number | number[]): { kept: number[]; count: number } {
  const axes = util.parseAxisParam(axis, shape);
  return {
    kept: shape.map((n, i) => (axes.includes(i) ? 1 : n)),
    count: sizeOf(axes.map((i) => shape[i])),
  };
}

/** To every element of `shape`, also when there is none, for which TF.js's broadcastTo keeps dy's own shape. */
function spread(dy: Tensor, shape: number[]): Tensor {
  return sizeOf(shape) === 0 ? zeros(shape) : broadcastTo(dy, shape);
}

/** Ties all receive the gradient, as they do in TF.js. */
const extremum = (kernelName: string, axisName: string) =>
  gradient(
    kernelName,
    ['x'],
    (dy, [x, y], attrs) => ({
      x: () => {
        const { kept } = keptShape(x.shape, attrs[axisName] as number[]);
        return mul(reshape(dy, kept), float(equal(x, reshape(y, kept))));
      },
    }),
    true,
  );

function matMulGradients(dy: Tensor, [a, b]: Tensor[], attrs: NamedAttrMap): Gradients {
  const { transposeA, transposeB } = attrs as { transposeA?: boolean; transposeB?: boolean };
  return {
    a: () =>
      unbroadcast(transposeA ? matMul(b, dy, transposeB, true) : matMul(dy, b, false, !transposeB), a.shape),
    b: () =>
      unbroadcast(transposeB ? matMul(dy, a, true, transposeA) : matMul(a, dy, !transposeA, false), b.shape),
  };
}

/** Rows that were read several times add up. */
function gatherGradient(
  dy: Tensor,
  shape: number[],
  indices: Tensor,
  axis: number,
  batchDims: number,
): Tensor {
  if (batchDims > 0) {
    const ids = unstack(indices);
    return stack(
      unstack(dy).map((d, i) => gatherGradient(d, shape.slice(1), ids[i], axis - 1, batchDims - 1)),
    );
  }
  // dy is [outer…, indices…, inner…]; the sum runs over its first axis.
  const outer = shape.slice(0, axis);
  const inner = shape.slice(axis + 1);
  const flat = reshape(dy, [sizeOf(outer), indices.size, sizeOf(inner)]);
  const summed = unsortedSegmentSum(
    transpose(flat, [1, 0, 2]),
    reshape(indices, [indices.size]),
    shape[axis],
  );
  return reshape(transpose(summed, [1, 0, 2]), shape);
}

function tileGradient(dy: Tensor, x: Tensor, reps: number[]): Tensor {
  const split = reshape(dy, x.shape.flatMap((n, axis) => [reps[axis], n])); // biome-ignore format: one thought
  return reshape(
    sum(
      split,
      reps.map((_, axis) => 2 * axis),
    ),
    x.shape,
  );
}

export const gradients: GradConfig[] = [
  gradient('Identity', [], (dy) => ({ x: () => float(dy) })),
  gradient('Cast', [], (dy) => ({ x: () => clone(dy) })),
  ofInput('Reshape', (dy, x) => reshape(dy, x.shape)),
  ofInput('ExpandDims', (dy, input) => reshape(dy, input.shape), 'input'),
  gradient('ZerosLike', [], (dy) => ({ x: () => zerosLike(dy) })),
  gradient('OnesLike', [], (dy) => ({ x: () => zerosLike(dy) })),

  binary('Add', clone, clone),
  binary('Sub', clone, neg),
  binary(
    'Multiply',
    (dy, _, b) => mul(dy, b),
    (dy, a) => mul(dy, a),
  ),
  binary(
    'RealDiv',
    (dy, _, b) => div(dy, b),
    (dy, a, b) => neg(div(mul(dy, a), square(b))),
  ),
  binary(
    'SquaredDifference',
    (dy, a, b) => mul(dy, mul(2, sub(a, b))),
    (dy, a, b) => mul(dy, mul(2, sub(b, a))),
  ),
  binary(
    'Maximum',
    (dy, a, b) => mul(dy, float(greaterEqual(a, b))),
    (dy, a, b) => mul(dy, float(less(a, b))),
  ),
  binary(
    'Minimum',
    (dy, a, b) => mul(dy, float(lessEqual(a, b))),
    (dy, a, b) => mul(dy, float(greater(a, b))),
  ),
  {
    kernelName: 'AddN',
    saveAllInputs: true,
    gradFunc: (dy, saved) => Object.fromEntries(saved.map((_, i) => [i, () => clone(dy as Tensor)])),
  },
  gradient('Select', ['condition'], (dy, [condition]) => ({
    condition: () => float(zerosLike(condition)),
    t: () => mul(dy, float(condition)),
    e: () => where(condition, zerosLike(dy), dy),
  })),

  gradient('Neg', [], (dy) => ({ x: () => neg(dy) })),
  ofInput('Square', (dy, x) => mul(dy, mul(2, float(x)))),
  ofOutput('Sqrt', (dy, y) => div(dy, mul(2, y))),
  ofOutput('Rsqrt', (dy, y) => mul(dy, mul(-0.5, mul(y, square(y))))),
  ofOutput('Reciprocal', (dy, y) => neg(mul(dy, square(y)))),
  ofOutput('Exp', (dy, y) => mul(dy, y)),
  ofInput('Log', (dy, x) => div(dy, float(x))),
  ofOutput('Sigmoid', (dy, y) => mul(dy, mul(y, sub(1, y)))),
  ofOutput('Tanh', (dy, y) => mul(dy, sub(1, square(y)))),

  gradient('Sum', ['x'], (dy, [x], { axis }) => ({
    x: () => spread(reshape(dy, keptShape(x.shape, axis as number[]).kept), x.shape),
  })),
  gradient('Mean', ['x'], (dy, [x], { axis }) => ({
    x: () => {
      const { kept, count } = keptShape(x.shape, axis as number[]);
      return spread(reshape(div(dy, count), kept), x.shape);
    },
  })),
  extremum('Max', 'reductionIndices'),
  extremum('Min', 'axis'),
  gradient(
    'Softmax',
    [],
    (dy, [y], { dim }) => ({
      logits: () => mul(y, sub(dy, sum(mul(dy, y), dim as number, true))),
    }),
    true,
  ),

  gradient('BatchMatMul', ['a', 'b'], matMulGradients),

  gradient('Transpose', [], (dy, _, { perm }) => ({
    x: () =>
      transpose(
        dy,
        (perm as number[]).map((_, axis) => (perm as number[]).indexOf(axis)),
      ),
  })),
  gradient('Slice', ['x'], (dy, [x], attrs) => ({
    x: () => {
      const [begin] = slice_util.parseSliceParams(x, attrs.begin as number[], attrs.size as number[]);
      return pad(
        dy,
        x.shape.map((n, axis): [number, number] => {
          return [begin[axis], n - begin[axis] - dy.shape[axis]];
        }),
      );
    },
  })),
  gradient('PadV2', ['x'], (dy, [x], { paddings }) => ({
    x: () =>
      slice(
        dy,
        (paddings as number[][]).map(([before]) => before),
        x.shape,
      ),
  })),
  gradient('Tile', ['x'], (dy, [x], { reps }) => ({ x: () => tileGradient(dy, x, reps as number[]) })),
  {
    kernelName: 'Concat',
    saveAllInputs: true,
    gradFunc: (dy, saved, { axis }) => {
      const [at] = util.parseAxisParam(axis as number, saved[0].shape);
      const parts = split(
        dy as Tensor,
        saved.map(({ shape }) => shape[at]),
        at,
      );
      return Object.fromEntries(parts.map((part, i) => [i, () => part]));
    },
  },
  {
    kernelName: 'Pack',
    saveAllInputs: true,
    gradFunc: (dy, _, { axis }) =>
      Object.fromEntries(unstack(dy as Tensor, axis as number).map((part, i) => [i, () => part])),
  },
  {
    kernelName: 'SplitV',
    gradFunc: (dy, _, { axis }) => ({ x: () => concat(dy as Tensor[], axis as number) }),
  },
  {
    kernelName: 'Unpack',
    gradFunc: (dy, _, { axis }) => ({ value: () => stack(dy as Tensor[], axis as number) }),
  },
  gradient('GatherV2', ['x', 'indices'], (dy, [x, indices], attrs) => ({
    x: () => {
      const [axis] = util.parseAxisParam(attrs.axis as number, x.shape);
      return gatherGradient(dy, x.shape, indices, axis, (attrs.batchDims as number | undefined) ?? 0);
    },
    indices: () => zerosLike(indices),
  })),
];
