import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { Random } from '../../../tests/op_cases.js';
import { addon, defaultDevice } from '../../device/addon.js';
import { NativeTensor } from '../../device/native_tensor.js';
import * as explicitAttention from '../../ops/attention.js';
import { axpby, cast, fill } from '../../ops/elementwise.js';
import { gatherRows, scatterAddRows } from '../../ops/embedding.js';
import * as explicitLinear from '../../ops/linear.js';
import * as explicitHead from '../../ops/linear_cross_entropy.js';
import * as explicitNorm from '../../ops/rmsnorm.js';
import { ropeInPlace } from '../../ops/rope.js';
import * as explicitSwiglu from '../../ops/swiglu.js';
import { BACKEND, fallbackCounts, nativeOf } from '../index.js';
import { attention } from './attention.js';
import { embedding } from './embedding.js';
import { linear } from './linear.js';
import { linearCrossEntropy } from './linear_cross_entropy.js';
import { residualAdd } from './residual_add.js';
import { rmsnorm } from './rmsnorm.js';
import { rope } from './rope.js';
import { swiglu } from './swiglu.js';

// The tape forms run the kernels of the explicit forms, which the op cases prove: the numbers must be the very same.

const EPS = 1e-5;
const HEADS = { heads: 4, kvHeads: 2, headDim: 6 };
const LENGTHS = [5, 1, 3];
const TOKENS = 9;
const IDS = [3, 0, 3, 4, 1, 1, 0, 3, 2];
const TARGETS = [1, -100, 6, 0, -100, 3, 3, 2, -100];
const LABELLED = TARGETS.flatMap((target, row) => (target === -100 ? [] : [row]));

const int32 = (values: number[]) => NativeTensor.from(defaultDevice(), Int32Array.from(values));

function zeros(shape: readonly number[]): NativeTensor {
  const t = NativeTensor.inArena(defaultDevice(), 'float32', shape);
  fill(t, 0);
  return t;
}

/** Cos and sin of the angle row · (i + 1) / 10. */
function angleTables(): { cos: Float32Array; sin: Float32Array; index: Int32Array } {
  const angles = Array.from({ length: 27 }, (_, at) => (Math.floor(at / 3) * ((at % 3) + 1)) / 10);
  return {
    cos: Float32Array.from(angles, Math.cos),
    sin: Float32Array.from(angles, Math.sin),
    index: Int32Array.from([0, 1, 2, 3, 4, 0, 0, 1, 8]),
  };
}

/** The explicit forms of a test make their tensors through `made`, which disposes them. */
type Made = (...tensors: NativeTensor[]) => NativeTensor;

interface TapeCase {
  name: string;
  shapes: number[][];
  tape: (...inputs: tf.Tensor[]) => tf.Tensor;
  /** The result and the gradients of the inputs, by the explicit functions. */
  explicit: (made: Made, inputs: NativeTensor[], dy: NativeTensor) => NativeTensor[];
}

const cases: TapeCase[] = [
  {
    name: 'linear',
    shapes: [
      [TOKENS, 7],
      [5, 7],
    ],
    tape: (x, w) => linear(x, w),
    explicit: (made, [x, w], dy) => {
      const dw = zeros(w.shape);
      explicitLinear.linearBackwardWeight(dw, dy, x);
      return [explicitLinear.linear(x, w), explicitLinear.linearBackwardInput(dy, w), made(dw)];
    },
  },
  {
    name: 'rmsnorm',
    shapes: [[TOKENS, 7], [7]],
    tape: (x, w) => rmsnorm(x, w, EPS),
    explicit: (made, [x, w], dy) => {
      const { y, rstd } = explicitNorm.rmsnorm(x, w, EPS);
      const dw = zeros(w.shape);
      made(rstd);
      return [y, explicitNorm.rmsnormBackward(dy, x, w, rstd, { dw }), dw];
    },
  },
  {
    name: 'residual add',
    shapes: [
      [TOKENS, 7],
      [TOKENS, 7],
    ],
    tape: (x, residual) => residualAdd(x, residual),
    explicit: (_, [x, residual], dy) => {
      const sum = x.like();
      axpby(sum, 1, x, 1, residual);
      return [sum, dy, dy];
    },
  },
  {
    name: 'rope',
    shapes: [[TOKENS, 4 * 6 + 1]],
    tape: (x) => {
      const { cos, sin, index } = angleTables();
      return rope(
        x,
        { cos: tf.tensor2d(cos, [9, 3]), sin: tf.tensor2d(sin, [9, 3]), index: tf.tensor1d(index) },
        4,
      );
    },
    explicit: (made, [x], dy) => {
      const { cos, sin, index } = angleTables();
      const angles = {
        cos: NativeTensor.from(defaultDevice(), cos, [9, 3]),
        sin: NativeTensor.from(defaultDevice(), sin, [9, 3]),
        index: NativeTensor.from(defaultDevice(), index),
      };
      made(angles.cos, angles.sin, angles.index);
      const [y, dx] = [x, dy].map((t) => {
        const copy = t.like();
        cast(copy, t);
        return copy;
      });
      ropeInPlace(y, angles, 4);
      ropeInPlace(dx, angles, 4, true);
      return [y, dx];
    },
  },
  {
    name: 'attention',
    shapes: [[TOKENS, 8 * 6]],
    tape: (qkv) => attention(qkv, LENGTHS, HEADS),
    explicit: (made, [qkv], dy) => {
      const documents = explicitAttention.documentsOf(LENGTHS, defaultDevice());
      const { out, lse } = explicitAttention.attention(qkv, documents, HEADS);
      made(documents.offsets, documents.keyStarts, documents.keyLengths, lse);
      return [out, explicitAttention.attentionBackward(dy, { out, lse, qkv }, documents, HEADS)];
    },
  },
  {
    name: 'swiglu',
    shapes: [[TOKENS, 2 * 7]],
    tape: (gateUp) => swiglu(gateUp),
    explicit: (_, [gateUp], dy) => [explicitSwiglu.swiglu(gateUp), explicitSwiglu.swigluBackward(dy, gateUp)],
  },
  {
    name: 'embedding',
    shapes: [[5, 7]],
    tape: (table) => embedding(table, tf.tensor1d(IDS, 'int32')),
    explicit: (made, [table], dy) => {
      const ids = int32(IDS);
      made(ids);
      const dtable = zeros(table.shape);
      scatterAddRows(dtable, dy, ids);
      return [gatherRows(table, ids), dtable];
    },
  },
  {
    name: 'linear + cross entropy',
    shapes: [
      [LABELLED.length, 7],
      [8, 7],
    ],
    tape: (h, w) => {
      const targets = tf.tensor1d(
        LABELLED.map((row) => TARGETS[row]),
        'int32',
      );
      return linearCrossEntropy(h, w, targets);
    },
    explicit: (made, [h, w], dy) => {
      const targets = int32(LABELLED.map((row) => TARGETS[row]));
      made(targets);
      const dw = zeros(w.shape);
      const { loss, dh } = explicitHead.linearCrossEntropyWithGradient(h, w, targets, dy, dw);
      return [loss, dh, dw];
    },
  },
];

function memory() {
  const { numTensors, numDataBuffers, numBytes } = tf.memory();
  const { heapBytes, arenaInUse } = addon.stats(defaultDevice());
  return { numTensors, numDataBuffers, numBytes, heapBytes, arenaInUse };
}

beforeAll(async () => {
  await tf.setBackend(BACKEND);
});

describe.each(cases)('$name', ({ shapes, tape, explicit }) => {
  const random = new Random(shapes.length);
  const normal = (shape: number[]) =>
    tf.tensor(
      Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => random.normal()),
      shape,
    );

  /** Runs `body` in a tidy, and checks that nothing is left of it. */
  const clean = (body: () => void) => {
    const before = memory();
    tf.tidy(() => {
      body();
    });
    expect(memory()).toEqual(before);
  };

  it('result and gradients equal the explicit form, bit by bit', () => {
    clean(() => {
      const inputs = shapes.map(normal);
      const y = tape(...inputs);
      const dy = normal(y.shape);
      const gradients = tf.grads(tape)(inputs, dy);

      const used = new Set<NativeTensor>();
      const made: Made = (...tensors) => {
        for (const t of tensors) used.add(t);
        return tensors[0];
      };
      const [expected, ...expectedGradients] = explicit(
        made,
        inputs.map((t) => nativeOf(t)),
        nativeOf(dy),
      );
      expect([...y.dataSync()]).toEqual([...expected.floats()]);
      gradients.forEach((gradient, i) => {
        expect(gradient.shape).toEqual(inputs[i].shape);
        expect([...gradient.dataSync()], `input ${i}`).toEqual([...expectedGradients[i].floats()]);
      });
      // dy itself stands for a gradient that equals it.
      const handles = new Set([dy, ...inputs].map((t) => nativeOf(t).handle));
      for (const t of new Set([expected, ...expectedGradients, ...used]))
        if (!handles.has(t.handle)) t.dispose();
    });
  });

  it('the gradients are the slopes', () => {
    clean(() => {
      const inputs = shapes.map(normal);
      const dy = normal(tape(...inputs).shape);
      const loss = (...x: tf.Tensor[]) => tf.sum(tf.mul(tape(...x), dy)) as tf.Scalar;
      const gradients = tf.grads(loss)(inputs);
      inputs.forEach((x, i) => {
        const direction = normal(x.shape);
        const at = (step: number) =>
          loss(...inputs.map((t, j) => (j === i ? tf.add(x, tf.mul(direction, step)) : t))).dataSync()[0];
        // Losses of order 10 in float32, twice 0.01 apart: right to 10⁻⁴ by rounding, to 10⁻³ or so by curvature.
        const slope = (at(0.01) - at(-0.01)) / 0.02;
        const expected = tf.sum(tf.mul(gradients[i], direction)).dataSync()[0];
        expect(Math.abs(slope - expected), `input ${i}`).toBeLessThanOrEqual(
          5e-3 * Math.max(1, Math.abs(slope)),
        );
      });
    });
  });

  it('each input alone can be asked for, the others being frozen', () => {
    clean(() => {
      const inputs = shapes.map(normal);
      const dy = normal(tape(...inputs).shape);
      const all = tf.grads(tape)(inputs, dy);
      inputs.forEach((x, i) => {
        const alone = tf.grad((t) => tape(...inputs.map((u, j) => (j === i ? t : u))))(x, dy);
        expect([...alone.dataSync()], `input ${i}`).toEqual([...all[i].dataSync()]);
      });
    });
  });

  it('leaves nothing behind outside of a tidy, and never leaves the native kernels', () => {
    const inputs = shapes.map(normal);
    const y = tf.tidy(() => tape(...inputs));
    const before = memory();
    const fallbacks = fallbackCounts();
    for (let i = 0; i < 3; i++) tf.dispose(tf.tidy(() => tape(...inputs)));
    tf.dispose(tf.grads(tape)(inputs));
    expect(memory()).toEqual(before);
    expect(fallbackCounts()).toEqual(fallbacks);
    tf.dispose([y, ...inputs]);
  });
});

it('only labelled positions go through the head, and the others get no gradient', () => {
  tf.tidy(() => {
    const random = new Random(1);
    const h = tf.tensor2d(Float32Array.from(random.normals(TOKENS * 7)), [TOKENS, 7]);
    const w = tf.tensor2d(Float32Array.from(random.normals(8 * 7)), [8, 7]);
    const targets = tf.tensor1d(TARGETS, 'int32');
    const rows = tf.tensor1d(LABELLED, 'int32');
    const chosen = tf.tensor1d(
      LABELLED.map((row) => TARGETS[row]),
      'int32',
    );
    const loss = linearCrossEntropy(h, w, targets);
    expect(loss.shape).toEqual([LABELLED.length]);
    expect([...loss.dataSync()]).toEqual([...linearCrossEntropy(tf.gather(h, rows), w, chosen).dataSync()]);
    const [dh, dw] = tf.grads((a, b) => tf.mean(linearCrossEntropy(a, b, targets)))([h, w]);
    const [dpicked, dwPicked] = tf.grads((a, b) => tf.mean(linearCrossEntropy(a, b, chosen)))([
      tf.gather(h, rows),
      w,
    ]);
    expect([...dw.dataSync()]).toEqual([...dwPicked.dataSync()]);
    expect([...tf.gather(dh, rows).dataSync()]).toEqual([...dpicked.dataSync()]);
    TARGETS.forEach((target, row) => {
      if (target === -100)
        expect([...tf.slice(dh, [row, 0], [1, 7]).dataSync()]).toEqual(new Array(7).fill(0));
    });
    expect(linearCrossEntropy(h, w, tf.fill([TOKENS], -100, 'int32')).shape).toEqual([0]);
  });
});

it('tensors of more than two axes keep their shape', () => {
  tf.tidy(() => {
    const x = tf.ones([2, 3, 4]);
    expect(rmsnorm(x, tf.ones([4]), EPS).shape).toEqual([2, 3, 4]);
    expect(linear(x, tf.ones([5, 4])).shape).toEqual([2, 3, 5]);
    expect(swiglu(x).shape).toEqual([2, 3, 2]);
    expect(embedding(tf.ones([7, 4]), tf.zeros([2, 3], 'int32')).shape).toEqual([2, 3, 4]);
  });
});

describe.each(cases)('$name', ({ shapes, tape }) => {
  it('has no second derivative, and says so', () => {
    tf.tidy(() => {
      const inputs = shapes.map((shape) => tf.ones(shape));
      const slopes = tf.grads((...x) => tf.sum(tf.square(tape(...x))));
      const bend = (x: tf.Tensor) => {
        const [gradient] = slopes([x, ...inputs.slice(1)]);
        // Another way from x to the result, without which TF.js itself would find none.
        return tf.add(tf.sum(gradient), tf.sum(tf.square(x)));
      };
      expect(() => tf.grad(bend)(inputs[0])).toThrow(/^\w+ has no second derivative$/);
    });
  });
});

it('says what does not fit, and leaves nothing behind', () => {
  const wrong: [string, () => tf.Tensor][] = [
    ['documents of [3] tokens do not make up the 9 rows', () => attention(tf.ones([9, 48]), [3], HEADS)],
    ['documents of [10,-1] tokens', () => attention(tf.ones([9, 48]), [10, -1], HEADS)],
    ['have different shapes', () => residualAdd<tf.Tensor>(tf.ones([2, 3]), tf.ones([3, 2]))],
    ['the table has the shape [2,3,4]', () => embedding(tf.ones([2, 3, 4]), tf.zeros([1], 'int32'))],
    ['embedding: ids[1] is 2, expected 0…1', () => embedding(tf.ones([2, 3]), tf.tensor1d([0, 2], 'int32'))],
    [
      'linearCrossEntropy: targets[1] is -1, expected 0…3',
      () => linearCrossEntropy(tf.ones([2, 3]), tf.ones([4, 3]), tf.tensor1d([0, -1], 'int32')),
    ],
    ['are not a gate and an up', () => swiglu(tf.ones([2, 5]))],
    [
      'rope: cos [4,2] and sin [4,1] must be',
      () =>
        rope(
          tf.ones([3, 8]),
          { cos: tf.ones([4, 2]), sin: tf.ones([4, 1]), index: tf.zeros([3], 'int32') },
          1,
        ),
    ],
    [
      'rope: index[2] is 4, expected 0…3',
      () =>
        rope(
          tf.ones([3, 8]),
          { cos: tf.ones([4, 2]), sin: tf.ones([4, 2]), index: tf.tensor1d([0, 1, 4], 'int32') },
          1,
        ),
    ],
    [
      'linearCrossEntropy: h [3,4] and w [5,7] must be',
      () => linearCrossEntropy(tf.ones([3, 4]), tf.ones([5, 7]), tf.zeros([3], 'int32')),
    ],
    [
      'targets [6] one for each row',
      () => linearCrossEntropy(tf.ones([3, 4]), tf.ones([5, 4]), tf.zeros([6], 'int32')),
    ],
  ];
  const before = memory();
  for (const [message, call] of wrong) expect(() => tf.tidy(call), message).toThrow(message);
  expect(memory()).toEqual(before);

  tf.tidy(() => {
    expect(() => linear(tf.ones([2, 3]), tf.ones([5, 4]))).toThrow('linear: [2,3] and w [5,4] do not fit');
    expect(() => embedding(tf.ones([2, 3]), tf.tensor1d([2], 'int32'))).toThrow(
      'embedding: ids[0] is 2, expected 0…1',
    );
    expect(() => embedding(tf.ones([2, 3]), tf.tensor1d([1]))).toThrow('ids is float32, which it may not be');
  });
});
