import type { DType, Ops } from '../../engine/device/ops.js';

// What each op has a card do: the bytes that must move and the FLOPs that must be done, by the op's own arguments.

/** As much of a tensor as counts. */
export interface Sized {
  size: number;
  bytes: number;
  elementBytes: number;
  dtype: DType;
}

/** An op's arguments, with tensors by their sizes. */
export type Arguments<Op extends keyof Ops> = {
  [Name in keyof Parameters<Ops[Op]>[0]]: Parameters<Ops[Op]>[0][Name] extends
    | number
    | boolean
    | string
    | readonly number[]
    ? Parameters<Ops[Op]>[0][Name]
    : Sized | Extract<Parameters<Ops[Op]>[0][Name], undefined>;
};

export interface Work {
  /** The file of the kernels, engine/native/cuda/<file>.cu. */
  file: string;
  launches: number;
  bytes: number;
  flops: number;
  /** What its FLOPs are bound by; memory alone where it has none that count. */
  unit: 'memory' | 'gemm' | 'attention_forward' | 'attention_backward';
}

type WorkOf = { [Op in keyof Ops]: (args: Arguments<Op>) => Work };

/** Each argument once. */
function moved(args: object): number {
  return Object.values(args).reduce((sum, value) => sum + (isSized(value) ? value.bytes : 0), 0);
}

function isSized(value: unknown): value is Sized {
  return typeof value === 'object' && value !== null && 'elementBytes' in value;
}

function memory(file: string, bytes: number, launches = 1): Work {
  return { file, launches, bytes, flops: 0, unit: 'memory' };
}

const elementwise = (file: string) => (args: object) => memory(file, moved(args));

/** Parts of a sum of `n` things, as parts.h cuts them. */
function parts(n: number, least: number, most: number): number {
  return Math.ceil(n / Math.max(least, Math.ceil(n / most)));
}

const WORK: WorkOf = {
  gemm: ({ m, n, k, ...args }) => ({
    file: 'gemm',
    launches: 1,
    bytes: moved(args),
    flops: 2 * m * n * k,
    unit: 'gemm',
  }),
  rmsnorm_forward: elementwise('rmsnorm'),
  // The parts' sums of dw are written and read.
  rmsnorm_backward: ({ dw, ...args }) =>
    memory(
      'rmsnorm',
      moved(args) + (dw ? 2 * dw.bytes + 2 * 4 * parts(args.rows, 16, 512) * args.dim : 0),
      dw ? 2 : 1,
    ),
  rope: ({ x, tokens, heads, head_dim }) =>
    memory('rope', tokens * (2 * heads * head_dim * x.elementBytes + 2 * 4 * (head_dim / 2) + 4)),
  attention_forward: ({ out, lse, q, tokens, heads, kv_heads, head_dim, pairs }) => ({
    file: 'attention',
    launches: 1,
    bytes: tokens * (heads + 2 * kv_heads) * head_dim * q.elementBytes + out.bytes + (lse?.bytes ?? 0),
    flops: 4 * pairs * heads * head_dim,
    unit: 'attention_forward',
  }),
  // Rows of delta are written and read by way of the workspace.
  attention_backward: ({ pairs, heads, head_dim, tokens, ...args }) => ({
    file: 'attention',
    launches: 3,
    bytes: moved(args) + args.out.bytes + 2 * 4 * heads * tokens,
    flops: 10 * pairs * heads * head_dim,
    unit: 'attention_backward',
  }),
  add_columns: ({ y, x, rows, columns }) => memory('columns', 2 * rows * columns * y.elementBytes + x.bytes),
  sum_columns: ({ y, x, rows, columns }) =>
    memory('columns', x.bytes + 2 * y.bytes + 2 * 8 * parts(rows, 128, 256) * columns, 2),
  swiglu_forward: elementwise('swiglu'),
  swiglu_backward: elementwise('swiglu'),
  gather_rows: ({ y, ids }) => memory('embedding', 2 * y.bytes + ids.bytes),
  scatter_rows: ({ x, ids, rows, dim }) => memory('embedding', 2 * rows * dim * x.elementBytes + ids.bytes),
  // Keys of 8 bytes are sorted in runs of 2,048, which are merged by twos. Each id is taken to be another row.
  scatter_add_rows: ({ table, dy, ids, rows, dim }) => {
    const merges = Math.max(0, Math.ceil(Math.log2(rows / 2048)));
    return memory(
      'embedding',
      dy.bytes + 2 * rows * dim * table.elementBytes + ids.bytes + 8 * rows * (2 + 2 * merges),
      2 + merges,
    );
  },
  cross_entropy: elementwise('cross_entropy'),
  clip_scale: elementwise('adamw'),
  // Weights, with what bf16 leaves of them, and moments are read and written.
  adamw: ({ p, remainder, m, v, ...args }) =>
    memory('adamw', 2 * (p.bytes + (remainder?.bytes ?? 0) + m.bytes + v.bytes) + moved(args)),
  sum_squares: ({ x, n }) => memory('reduce', x.bytes + 2 * 8 * parts(n, 8192, 16384), 2),
  sum: ({ x, n }) => memory('reduce', x.bytes + 2 * 8 * parts(n, 8192, 16384), 2),
  axpby: elementwise('elementwise'),
  cast: elementwise('elementwise'),
  split_float: elementwise('split_float'),
  join_float: elementwise('split_float'),
  fill: elementwise('elementwise'),
  fill_normal: elementwise('fill_normal'),
  binary: elementwise('binary'),
  unary: elementwise('unary'),
  reduce_axis: ({ y, x, outer, n, inner }) => {
    const cut = n > 16384 && outer * inner < 4096;
    return memory('reduce_axis', y.bytes + x.bytes, cut ? 2 : 1);
  },
  copy_strided: ({ y, shape }) =>
    memory('copy_strided', 2 * y.elementBytes * shape.reduce((all: number, n: number) => all * n, 1)),
  softmax: elementwise('softmax'),
};

/** What a call of an op is for a card. */
export function workOf<Op extends keyof Ops>(op: Op, args: Arguments<Op>): Work {
  return WORK[op](args);
}
