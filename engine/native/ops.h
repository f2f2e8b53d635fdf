// The op table: every op of every device, declared once.
//
//   OP(name, (parameters), contract)
//
// The parameters are what JavaScript passes by name: In and Out tensors, sizes (i64), scalars (f64), flags (bool), four
// sizes or strides (Four), and one of several words (an enum of TSTRAIN_CHOICES). A tensor said to be OPTIONAL may be
// left out. The contract is checked before the op runs, on every device: NEED a size and a type of each tensor, REQUIRE
// what else must hold of sizes and types, then cost(): the FLOPs (multiply and add count two, as in the literature;
// elementwise work counts nothing). Sizes in a contract are checked integers (checked.h): none wraps around. No
// message names the op: the binding puts its name in front. What stands in a tensor (ids, offsets, places in a table)
// nobody checks here: a device would have to be waited for. Whoever uploads such values has checked them.
//
// To add an op: one entry here, one file in cpu/ and one in cuda/, one engine/ops/x.ts, one engine/ops/x.cases.ts;
// a line in the WorkspaceTable of each device that needs workspace for it. The N-API binding, its types in TypeScript
// (engine/device/ops.d.ts), meta and the size checks come from the entry.
//
// Words: T tokens, C hidden size, F intermediate size, V vocabulary, H heads, KV key/value heads, D head_dim.
// "float" means float32 or bfloat16; arithmetic and statistics are float32 in either case.
#pragma once
#include <array>

#include "device.h"

// What a parameter can be one of: CHOICE(type, words…) is an enum here and a union of strings in TypeScript.
#define TSTRAIN_CHOICES(CHOICE)                                                                                 \
  CHOICE(Binary, add, subtract, multiply, divide, maximum, minimum, squared_difference, equal, not_equal, less, \
         less_equal, greater, greater_equal)                                                                    \
  CHOICE(Unary, negate, abs, square, sqrt, rsqrt, reciprocal, exp, log, sigmoid, tanh)                          \
  CHOICE(Reduction, sum, mean, max, min)

// clang-format off: comments and rules of an entry stand as they are read.
#define TSTRAIN_OPS(OP)                                                                                            \
  /* C[m,n] = A·B + addend (optional, of C's type; it may be C itself). A is [m,k], or [k,m] when trans_a; B is    \
     [k,n], or [n,k] when trans_b. A and B have one type; C is that type or float32. fp32 accumulation: the sum with \
     the addend is rounded once. */                                                                                \
  OP(gemm, (Out c, In a, In b, In addend, i64 m, i64 n, i64 k, bool trans_a, bool trans_b),                        \
     NEED(c, m * n, floats), NEED(a, m * k, floats), NEED(b, k * n, floats), OPTIONAL(addend, m * n, floats),      \
     SAME_TYPE(a, b), SAME_TYPE_IF(c, addend), REQUIRE(c.dtype == a.dtype || c.dtype == DType::f32, "float32 operands need a float32 result"), \
     cost(2.0 * f64(m) * f64(n) * f64(k)))                                                                         \
  /* RMSNorm (arXiv 1910.07467): rstd = 1/√(mean(x²)+eps), y = x · rstd · w. Rows of dim. */                       \
  OP(rmsnorm_forward, (Out y, Out rstd, In x, In w, i64 rows, i64 dim, f64 eps),                                   \
     NEED(y, rows * dim, floats), NEED(rstd, rows, f32s), NEED(x, rows * dim, floats), NEED(w, dim, floats),       \
     SAME_TYPE(x, y), SAME_TYPE(x, w), cost(0))                                                                    \
  /* dx = dresidual (optional) + rstd·(w·dy − x·rstd²·mean(w·dy·x)); dw += Σ_rows dy·x·rstd (dw optional). */      \
  OP(rmsnorm_backward, (Out dx, Out dw, In dy, In x, In w, In rstd, In dresidual, i64 rows, i64 dim),              \
     NEED(dx, rows * dim, floats), OPTIONAL(dw, dim, floats), NEED(dy, rows * dim, floats),                        \
     NEED(x, rows * dim, floats), NEED(w, dim, floats), NEED(rstd, rows, f32s),                                    \
     OPTIONAL(dresidual, rows * dim, floats), SAME_TYPE(x, dy), SAME_TYPE(x, w), SAME_TYPE(x, dx),                 \
     SAME_TYPE_IF(x, dresidual), cost(0))                                                                          \
  /* RoPE in place, half-split form: the first `heads` heads of each row of x (row stride `stride`) turn by the    \
     angle whose cos and sin stand in row index[t] of the tables [rows, D/2]. inverse turns back (the gradient). */ \
  OP(rope, (Out x, In cos, In sin, In index, i64 tokens, i64 heads, i64 head_dim, i64 stride, bool inverse),       \
     NEED(x, tokens * stride, floats), NEED(cos, head_dim / 2, f32s), NEED(sin, head_dim / 2, f32s),               \
     NEED(index, tokens, i32s),                                                                                    \
     REQUIRE(head_dim >= 2 && head_dim % 2 == 0, "head_dim is " + text(head_dim) + ", it must be even"),           \
     REQUIRE(stride >= heads * head_dim, "a row of " + text(stride) + " elements cannot hold " + text(heads) +     \
                                             " heads of " + text(head_dim)),                                       \
     cost(0))                                                                                                      \
  /* Causal attention of documents. The queries lie end to end, those of document j in rows q_offsets[j]…          \
     q_offsets[j+1]; its keys are rows k_starts[j]…k_starts[j] + k_lengths[j], so that a cache may have room between \
     texts. The last query sees the last key (so more keys than queries are a past). q is [Tq, H, D] with row stride \
     q_stride, k and v [Tk, KV, D] with kv_stride; out [Tq, H, D] dense, lse [H, Tq] the row log-sum-exp that      \
     backward needs (optional). max_q, max_k: the longest document. pairs: the number of (query, key) pairs of one \
     head, for the count of FLOPs. */                                                                              \
  OP(attention_forward,                                                                                            \
     (Out out, Out lse, In q, In k, In v, In q_offsets, In k_starts, In k_lengths, i64 documents, i64 heads,       \
      i64 kv_heads, i64 head_dim, i64 q_stride, i64 kv_stride, i64 tokens, i64 max_q, i64 max_k, f64 pairs,        \
      f64 scale),                                                                                                  \
     NEED(out, tokens * heads * head_dim, floats), OPTIONAL(lse, heads * tokens, f32s),                            \
     NEED(q, (tokens - 1) * q_stride + heads * head_dim, floats), NEED(k, kv_heads * head_dim, floats),            \
     NEED(v, kv_heads * head_dim, floats), NEED(q_offsets, documents + 1, i32s), NEED(k_starts, documents, i32s),  \
     NEED(k_lengths, documents, i32s), SAME_TYPE(q, k), SAME_TYPE(q, v), SAME_TYPE(q, out),                        \
     REQUIRE(head_dim >= 1, "head_dim is 0"), require_groups(heads, kv_heads),                                     \
     REQUIRE(q_stride >= heads * head_dim && kv_stride >= kv_heads * head_dim,                                     \
             "rows of " + text(q_stride) + " and " + text(kv_stride) + " elements cannot hold the heads"),         \
     cost(4.0 * pairs * f64(heads * head_dim)))                                                                    \
  /* Gradients of the above for packed rows qkv [T, (H + 2 KV)·D] whose documents, keys included, lie end to end;  \
     dqkv likewise. */                                                                                             \
  OP(attention_backward,                                                                                           \
     (Out dqkv, In dout, In out, In lse, In qkv, In offsets, i64 documents, i64 heads, i64 kv_heads, i64 head_dim, \
      i64 tokens, i64 max_tokens, f64 pairs, f64 scale),                                                           \
     NEED(dqkv, tokens * (heads + 2 * kv_heads) * head_dim, floats), NEED(dout, tokens * heads * head_dim, floats), \
     NEED(out, tokens * heads * head_dim, floats), NEED(lse, heads * tokens, f32s),                                \
     NEED(qkv, tokens * (heads + 2 * kv_heads) * head_dim, floats), NEED(offsets, documents + 1, i32s),            \
     SAME_TYPE(dqkv, qkv), SAME_TYPE(dout, qkv), SAME_TYPE(out, qkv),                                              \
     REQUIRE(head_dim >= 1, "head_dim is 0"), require_groups(heads, kv_heads),                                     \
     cost(10.0 * pairs * f64(heads * head_dim)))                                                                   \
  /* y[r, y_offset + c] += x[r, c] for x [rows, columns] with rows x_stride apart (0: one row for all, a bias) and y with \
     rows y_stride apart. */                                                                                       \
  OP(add_columns, (Out y, In x, i64 rows, i64 columns, i64 y_stride, i64 y_offset, i64 x_stride),                  \
     NEED(y, rows * y_stride, floats), NEED(x, x_stride == 0 ? columns : rows * x_stride, floats),                 \
     SAME_TYPE(y, x),                                                                                              \
     REQUIRE(y_offset + columns <= y_stride, "a row of " + text(y_stride) + " elements has no columns " +          \
                                                 text(y_offset) + "…" + text(y_offset + columns)),                 \
     REQUIRE(x_stride == 0 || x_stride >= columns, "rows of x overlap"), cost(0))                               \
  /* y[c] += Σ_r x[r, c], each column summed in float64 in a fixed order: the gradient of a bias. */              \
  OP(sum_columns, (Out y, In x, i64 rows, i64 columns),                                                            \
     NEED(y, columns, floats), NEED(x, rows * columns, floats), cost(0))                                        \
  /* SwiGLU (arXiv 2002.05202): y = silu(gate) · up, with gate_up [rows, 2·dim] = gate | up. */                    \
  OP(swiglu_forward, (Out y, In gate_up, i64 rows, i64 dim),                                                       \
     NEED(y, rows * dim, floats), NEED(gate_up, 2 * rows * dim, floats), SAME_TYPE(y, gate_up), cost(0))           \
  /* dgate_up from dy; y (optional) receives the forward value again, so that nobody has to keep it. dgate_up may  \
     be gate_up itself. */                                                                                         \
  OP(swiglu_backward, (Out dgate_up, Out y, In dy, In gate_up, i64 rows, i64 dim),                                 \
     NEED(dgate_up, 2 * rows * dim, floats), OPTIONAL(y, rows * dim, floats), NEED(dy, rows * dim, floats),        \
     NEED(gate_up, 2 * rows * dim, floats), SAME_TYPE(dy, gate_up), SAME_TYPE(dgate_up, gate_up),                  \
     SAME_TYPE_IF(dy, y), cost(0))                                                                                 \
  /* y[i] = table[ids[i]]: the embedding, and the choice of labelled rows. */                                      \
  OP(gather_rows, (Out y, In table, In ids, i64 rows, i64 dim, i64 table_rows),                                    \
     NEED(y, rows * dim, numbers), NEED(table, table_rows * dim, numbers), NEED(ids, rows, i32s),                  \
     SAME_TYPE(y, table), cost(0))                                                                                 \
  /* table[ids[i]] = x[i], for rows of x that are x_stride apart: new tokens go to their rows of a cache. Which of \
     two rows with one id stays is not said. */                                                                    \
  OP(scatter_rows, (Out table, In x, In ids, i64 rows, i64 dim, i64 x_stride, i64 table_rows),                     \
     NEED(table, table_rows * dim, numbers), NEED(x, (rows - 1) * x_stride + dim, numbers), NEED(ids, rows, i32s), \
     SAME_TYPE(table, x),                                                                                          \
     REQUIRE(x_stride >= dim, "rows of " + text(dim) + " elements do not fit into " + text(x_stride)), cost(0))    \
  /* table[ids[i]] += dy[i], in the order of i: summed in float32, so that a row of bfloat16 is rounded once. */   \
  OP(scatter_add_rows, (Out table, In dy, In ids, i64 rows, i64 dim, i64 table_rows),                              \
     NEED(table, table_rows * dim, floats), NEED(dy, rows * dim, floats), NEED(ids, rows, i32s), cost(0))          \
  /* Cross entropy of rows of logits with the target ids: loss[i] = lse[i] − logits[i, target]. When dlogits is    \
     given it receives weights[i] · (softmax(logits[i]) − onehot(target)); it may be logits itself. A target of    \
     −100 has loss 0 and gradient 0. */                                                                            \
  OP(cross_entropy, (Out loss, Out lse, Out dlogits, In logits, In targets, In weights, i64 rows, i64 vocab),      \
     NEED(loss, rows, f32s), OPTIONAL(lse, rows, f32s), OPTIONAL(dlogits, rows * vocab, floats),                   \
     NEED(logits, rows * vocab, floats), NEED(targets, rows, i32s), OPTIONAL(weights, rows, f32s), cost(0))   \
  /* Before an update: update is {step, learning rate, norm, scale}. norm = √squares[0]; scale = min(1, max_norm /       \
     (norm + 1e-6)), or 1 when max_norm is 0 (torch's clip_grad_norm_). Both are NaN when norm or one of the n losses     \
     (optional) is not finite, and from then on. */                                                                \
  OP(clip_scale, (Out update, In squares, In losses, i64 n, f64 max_norm),                                          \
     NEED(update, 4, f64s), NEED(squares, 1, f64s), OPTIONAL(losses, n, f64s), cost(0))                         \
  /* AdamW (arXiv 1711.05101), step t counted from 1, on g·scale: p ·= 1 − lr·weight_decay;                         \
     m = β1 m + (1−β1) g; v = β2 v + (1−β2) g²; p −= lr/(1−β1^t) · m / (√v/√(1−β2^t) + eps).                       \
     update: {t, lr, norm, scale}, see clip_scale; nothing changes when norm or scale is not finite.                \
     p in bfloat16 comes with its remainder: the two of split_float. m and v in bfloat16 are rounded to one of their \
     two neighbours at random, the nearer the likelier, so that they are right on average: 16 random bits are added to \
     the 16 that are then cut off. They are the upper 16 for m, and the next 16 for v, of number place + i of the stream \
     2³² + t of seed (fill_normal's generator). */                                                                 \
  OP(adamw,                                                                                                        \
     (Out p, Out remainder, Out m, Out v, In g, In update, i64 n, f64 beta1, f64 beta2, f64 eps, f64 weight_decay,   \
      i64 seed, i64 place),                                                                                        \
     NEED(p, n, floats), OPTIONAL(remainder, n, i16s), NEED(m, n, floats), NEED(v, n, floats), SAME_TYPE(m, v),    \
     NEED(g, n, floats), NEED(update, 4, f64s),                                                                    \
     REQUIRE((p.dtype == DType::bf16) == bool(remainder), "parameters in bfloat16, and they alone, have a remainder"), \
     cost(0))                                                                                                      \
  /* x as two numbers of 16 bits: high is the nearest bfloat16, ties away from zero, and low what is left of x's pattern, \
     which is high · 2¹⁶ + low, low being signed. So low is negative where x was rounded up, ties among them; had they \
     gone to the even neighbour, as in cast, nobody could tell on which side of it they lay. low is optional. A NaN     \
     stays one, with low = 0. */                                                                                   \
  OP(split_float, (Out high, Out low, In x, i64 n),                                                                \
     NEED(high, n, bf16s), OPTIONAL(low, n, i16s), NEED(x, n, f32s), cost(0))                                      \
  /* The same x again. */                                                                                          \
  OP(join_float, (Out x, In high, In low, i64 n),                                                                  \
     NEED(x, n, f32s), NEED(high, n, bf16s), NEED(low, n, i16s), cost(0))                                          \
  /* out[0] = Σ x², summed in float64 over blocks of a fixed size, so that the thread count does not change it. */ \
  OP(sum_squares, (Out out, In x, i64 n), NEED(out, 1, f64s), NEED(x, n, floats),                                  \
     cost(0))                                                                                                      \
  /* out[0] = Σ x in float64, likewise. */                                                                         \
  OP(sum, (Out out, In x, i64 n), NEED(out, 1, f64s), NEED(x, n, floats),                                          \
     cost(0))                                                                                                      \
  /* y = a·x + b·z (z optional); y may be x or z. */                                                               \
  OP(axpby, (Out y, In x, In z, i64 n, f64 a, f64 b),                                                              \
     NEED(y, n, floats), NEED(x, n, floats), OPTIONAL(z, n, floats), cost(0))                                      \
  /* y = x with y's type: bfloat16 rounds to nearest even, int32 drops the fraction, uint8 (a truth value) is x ≠ 0. */ \
  OP(cast, (Out y, In x, i64 n), NEED(y, n, castable), NEED(x, n, castable), cost(0))                              \
  OP(fill, (Out y, i64 n, f64 value), NEED(y, n, castable | i16s), cost(0))                                        \
  /* y[i] ~ N(0, std²), a function of (seed, stream, place + i) alone; place is even. */                           \
  OP(fill_normal, (Out y, i64 n, i64 seed, i64 stream, i64 place, f64 std),                                        \
     NEED(y, n, f32s), REQUIRE(place % 2 == 0, "place is " + text(place) + ", it must be even"), cost(0))          \
  /* TF.js's elementwise kernels of two tensors: y, dense in `shape`, = a ∘ b, each read through strides in elements \
     (0 repeats a value). squared_difference is (a−b)². y of a comparison is uint8. */                             \
  OP(binary, (Out y, In a, In b, Binary op, Four shape, Four a_strides, Four b_strides),                           \
     NEED(y, elements(shape), f32s | i32s | u8s), NEED(a, strided_extent(0, shape, a_strides), f32s | i32s),       \
     NEED(b, strided_extent(0, shape, b_strides), f32s | i32s), SAME_TYPE(a, b),                                   \
     REQUIRE(is_comparison(op) ? y.dtype == DType::u8 : y.dtype == a.dtype,                                        \
             is_comparison(op) ? "y of a comparison is uint8" : "y has another type than its operands"),           \
     REQUIRE(op != Binary::divide || a.dtype == DType::f32, "division is for float32"), cost(0))                   \
  /* And of one: y = −x, |x|, x², √x, 1/√x, 1/x, eˣ, ln x, 1/(1+e⁻ˣ), tanh x. */                                   \
  OP(unary, (Out y, In x, Unary op, i64 n), NEED(y, n, f32s), NEED(x, n, f32s), cost(0))                           \
  /* y [outer, inner] of x [outer, n, inner], over n. Sums of float32 in float64. */                               \
  OP(reduce_axis, (Out y, In x, Reduction op, i64 outer, i64 n, i64 inner),                                        \
     NEED(y, outer * inner, f32s | i32s), NEED(x, outer * n * inner, f32s | i32s), SAME_TYPE(y, x),                \
     REQUIRE(op != Reduction::mean || x.dtype == DType::f32, "the mean is for float32"), cost(0))                  \
  /* y[y_offset + i·y_strides] = x[x_offset + i·x_strides] for each index i of `shape`: transposes, slices,        \
     concats. */                                                                                                   \
  OP(copy_strided, (Out y, In x, i64 y_offset, i64 x_offset, Four shape, Four y_strides, Four x_strides),          \
     NEED(y, strided_extent(y_offset, shape, y_strides), numbers),                                                 \
     NEED(x, strided_extent(x_offset, shape, x_strides), numbers), SAME_TYPE(y, x), cost(0))                       \
  /* Rows of probabilities: exp(x − max) / Σ. */                                                                   \
  OP(softmax, (Out y, In x, i64 rows, i64 dim), NEED(y, rows * dim, f32s), NEED(x, rows * dim, f32s), cost(0))
// clang-format on

namespace tstrain {

// The sizes of four axes, or a stride in elements along each.
using Four = std::array<i64, 4>;

#define TSTRAIN_ENUM(type, ...) enum class type { __VA_ARGS__ };
TSTRAIN_CHOICES(TSTRAIN_ENUM)
#undef TSTRAIN_ENUM

// The words of a type of TSTRAIN_CHOICES; JavaScript passes the place of one among them.
template <class T>
struct Words;
#define TSTRAIN_WORDS(type, ...)                          \
  template <>                                             \
  struct Words<type> {                                    \
    static constexpr const char* list = #__VA_ARGS__;     \
    static constexpr i64 count = [] {                     \
      i64 n = 1;                                          \
      for (const char* c = list; *c; c++) n += *c == ','; \
      return n;                                           \
    }();                                                  \
  };
TSTRAIN_CHOICES(TSTRAIN_WORDS)
#undef TSTRAIN_WORDS

inline bool is_comparison(Binary op) { return op >= Binary::equal; }

struct Context {
  void* workspace;  // as many bytes as the device's WorkspaceTable says
  Stream stream;
};

// What a device implements an op by: the parameters of its entry, with the context in front.
template <class F>
struct WithContext;
template <class... A>
struct WithContext<void(A...)> {
  using type = void(const Context&, A...);
};

// What runs on a device, by op.
struct OpTable {
#define TSTRAIN_MEMBER(name, parameters, ...) WithContext<void parameters>::type* name;
  TSTRAIN_OPS(TSTRAIN_MEMBER)
#undef TSTRAIN_MEMBER
};

// What each op needs on a device beyond its arguments: bytes of workspace, by the very arguments. A null entry: none.
struct WorkspaceTable {
#define TSTRAIN_MEMBER(name, parameters, ...) i64(*name) parameters = nullptr;
  TSTRAIN_OPS(TSTRAIN_MEMBER)
#undef TSTRAIN_MEMBER
};

}  // namespace tstrain
