// The op table: every op of every device, declared once.
//
//   OP(name, (parameters), contract)
//
// The parameters are what JavaScript passes, in this order: In and Out tensors (by handle), i64, f64 and bool.
// A tensor said to be optional may be left out (handle 0). The contract is checked before the op runs, on every
// device: need() a size and a type of each tensor, require() what else must hold of sizes and types (kernels refuse
// only what stands in a tensor: ids, offsets), then cost(): the FLOPs (multiply and add count two, as in the
// literature; elementwise work counts nothing) and the bytes of workspace the op gets from the arena. No message
// names the op: the binding puts its name in front.
//
// To add an op: one entry here, one file in cpu/ (and later cuda/), one engine/ops/x.ts, one engine/ops/x.cases.ts.
// The N-API binding, the meta device and the size checks come from the entry.
//
// Words: T tokens, C hidden size, F intermediate size, V vocabulary, H heads, KV key/value heads, D head_dim.
// "float" means float32 or bfloat16; arithmetic and statistics are float32 in either case.
#pragma once
#include "device.h"

#define TSTRAIN_OPS(OP)                                                                                            \
  /* C[m,n] = A·B, or C += A·B when accumulate. A is [m,k], or [k,m] when trans_a; B is [k,n], or [n,k] when      \
     trans_b. A and B have one type; C is that type or float32. fp32 accumulation. */                             \
  OP(gemm, (Out c, In a, In b, i64 m, i64 n, i64 k, bool trans_a, bool trans_b, bool accumulate),                  \
     need(c, m * n, floats), need(a, m * k, floats), need(b, k * n, floats),                                       \
     same_type(a, b), require(c.dtype == a.dtype || c.dtype == DType::f32, "float32 operands need a float32 result"),  \
     cost(2.0 * f64(m) * f64(n) * f64(k), gemm_workspace(c, a, b, m, n, k, trans_a, trans_b, accumulate)))               \
  /* RMSNorm (arXiv 1910.07467) of x + residual: sum = x + residual (both optional), rstd = 1/√(mean(sum²)+eps),   \
     y = sum · rstd · w. Rows of dim. */                                                                           \
  OP(rmsnorm_forward, (Out y, Out rstd, Out sum, In x, In residual, In w, i64 rows, i64 dim, f64 eps),             \
     need(y, rows * dim, floats), need(rstd, rows, f32s), optional(sum, rows * dim, floats),                       \
     need(x, rows * dim, floats), optional(residual, rows * dim, floats), need(w, dim, floats),                    \
     same_type(x, y), same_type(x, w), same_type_if(x, sum), same_type_if(x, residual),                            \
     require(sum || !residual, "a residual needs a sum to go to"), cost(0, 0))                                     \
  /* dx = dresidual (optional) + rstd·(w·dy − x·rstd²·mean(w·dy·x)); dw += Σ_rows dy·x·rstd (dw optional). */      \
  OP(rmsnorm_backward, (Out dx, Out dw, In dy, In x, In w, In rstd, In dresidual, i64 rows, i64 dim),              \
     need(dx, rows * dim, floats), optional(dw, dim, f32s), need(dy, rows * dim, floats),                          \
     need(x, rows * dim, floats), need(w, dim, floats), need(rstd, rows, f32s),                                    \
     optional(dresidual, rows * dim, floats), same_type(x, dy), same_type(x, w), same_type(x, dx),                 \
     same_type_if(x, dresidual), cost(0, 4 * dim * thread_count()))                                                \
  /* RoPE in place, half-split form: the first `heads` heads of each row of x (row stride `stride`) turn by the     \
     angle whose cos and sin stand in row index[t] of the tables [rows, D/2]. inverse turns back (the gradient). */\
  OP(rope, (Out x, In cos, In sin, In index, i64 tokens, i64 heads, i64 head_dim, i64 stride, bool inverse),       \
     need(x, tokens * stride, floats), need(cos, head_dim / 2, f32s), need(sin, head_dim / 2, f32s),               \
     need(index, tokens, i32s),                                                                                    \
     require(head_dim >= 2 && head_dim % 2 == 0, "head_dim is " + text(head_dim) + ", it must be even"),           \
     require(stride >= heads * head_dim, "a row of " + text(stride) + " elements cannot hold " + text(heads) +     \
                                             " heads of " + text(head_dim)),                                       \
     cost(0, 0))                                                                                                   \
  /* Causal attention over documents that lie end to end. Document j has queries q_offsets[j]…q_offsets[j+1] and   \
     keys k_offsets[j]…k_offsets[j+1]; its last query sees its last key (so a longer k is a cache). q is           \
     [Tq, H, D] with row stride q_stride, k and v [Tk, KV, D]; out [Tq, H, D] dense, lse [H, Tq] the row           \
     log-sum-exp that backward needs (optional). max_q, max_k: the longest document. pairs: the number of          \
     (query, key) pairs of one head, for the count of FLOPs. */                                                    \
  OP(attention_forward,                                                                                            \
     (Out out, Out lse, In q, In k, In v, In q_offsets, In k_offsets, i64 documents, i64 heads, i64 kv_heads,      \
      i64 head_dim, i64 q_stride, i64 kv_stride, i64 tokens, i64 max_q, i64 max_k, f64 pairs, f64 scale),          \
     need(out, tokens * heads * head_dim, floats), optional(lse, heads * tokens, f32s),                            \
     need(q, (tokens - 1) * q_stride + heads * head_dim, floats), need(k, kv_heads * head_dim, floats),            \
     need(v, kv_heads * head_dim, floats), need(q_offsets, documents + 1, i32s),                                   \
     need(k_offsets, documents + 1, i32s), same_type(q, k), same_type(q, v), same_type(q, out),                    \
     require(head_dim >= 1, "head_dim is 0"), require_groups(heads, kv_heads),                                     \
     require(q_stride >= heads * head_dim && kv_stride >= kv_heads * head_dim,                                     \
             "rows of " + text(q_stride) + " and " + text(kv_stride) + " elements cannot hold the heads"),         \
     cost(4.0 * pairs * f64(heads * head_dim), attention_forward_workspace(max_k, head_dim)))               \
  /* Gradients of the above for packed rows qkv [T, (H + 2 KV)·D] (keys = queries, no cache); dqkv likewise. */    \
  OP(attention_backward,                                                                                           \
     (Out dqkv, In dout, In out, In lse, In qkv, In offsets, i64 documents, i64 heads, i64 kv_heads, i64 head_dim, \
      i64 tokens, i64 max_tokens, f64 pairs, f64 scale),                                                           \
     need(dqkv, tokens * (heads + 2 * kv_heads) * head_dim, floats), need(dout, tokens * heads * head_dim, floats),\
     need(out, tokens * heads * head_dim, floats), need(lse, heads * tokens, f32s),                                \
     need(qkv, tokens * (heads + 2 * kv_heads) * head_dim, floats), need(offsets, documents + 1, i32s),            \
     same_type(dqkv, qkv), same_type(dout, qkv), same_type(out, qkv),                                              \
     require(head_dim >= 1, "head_dim is 0"), require_groups(heads, kv_heads),                                     \
     cost(10.0 * pairs * f64(heads * head_dim), attention_backward_workspace(max_tokens, head_dim)))               \
  /* SwiGLU (arXiv 2002.05202): y = silu(gate) · up, with gate_up [rows, 2·dim] = gate | up. */                    \
  OP(swiglu_forward, (Out y, In gate_up, i64 rows, i64 dim),                                                       \
     need(y, rows * dim, floats), need(gate_up, 2 * rows * dim, floats), same_type(y, gate_up), cost(0, 0))        \
  /* dgate_up from dy; y (optional) receives the forward value again, so that nobody has to keep it. dgate_up may  \
     be gate_up itself. */                                                                                         \
  OP(swiglu_backward, (Out dgate_up, Out y, In dy, In gate_up, i64 rows, i64 dim),                                 \
     need(dgate_up, 2 * rows * dim, floats), optional(y, rows * dim, floats), need(dy, rows * dim, floats),        \
     need(gate_up, 2 * rows * dim, floats), same_type(dy, gate_up), same_type(dgate_up, gate_up),                  \
     same_type_if(dy, y), cost(0, 0))                                                                              \
  /* y[i] = table[ids[i]]: the embedding, and the choice of labelled rows. Ids must lie in 0…table_rows−1. */      \
  OP(gather_rows, (Out y, In table, In ids, i64 rows, i64 dim, i64 table_rows),                                    \
     need(y, rows * dim, numbers), need(table, table_rows * dim, numbers), need(ids, rows, i32s),                  \
     same_type(y, table), cost(0, 0))                                                                              \
  /* table[ids[i]] += dy[i], in the order of i. */                                                                 \
  OP(scatter_add_rows, (Out table, In dy, In ids, i64 rows, i64 dim, i64 table_rows),                              \
     need(table, table_rows * dim, floats), need(dy, rows * dim, floats), need(ids, rows, i32s), cost(0, 0))       \
  /* Cross entropy of rows of logits with the target ids: loss[i] = lse[i] − logits[i, target]. When dlogits is     \
     given it receives weights[i] · (softmax(logits[i]) − onehot(target)); it may be logits itself. A target of    \
     −100 has loss 0 and gradient 0. */                                                                            \
  OP(cross_entropy, (Out loss, Out lse, Out dlogits, In logits, In targets, In weights, i64 rows, i64 vocab),      \
     need(loss, rows, f32s), optional(lse, rows, f32s), optional(dlogits, rows * vocab, floats),                   \
     need(logits, rows * vocab, floats), need(targets, rows, i32s), optional(weights, rows, f32s), cost(0, 4 * vocab * thread_count()))   \
  /* AdamW (arXiv 1711.05101), step counted from 1, on g·grad_scale: p ·= 1 − lr·weight_decay;                      \
     m = β1 m + (1−β1) g; v = β2 v + (1−β2) g²; p −= lr/(1−β1^t) · m / (√v/√(1−β2^t) + eps).                       \
     p16 (optional) receives p rounded to bfloat16. */                                                             \
  OP(adamw,                                                                                                        \
     (Out p, Out m, Out v, Out p16, In g, i64 n, i64 step, f64 lr, f64 beta1, f64 beta2, f64 eps,                  \
      f64 weight_decay, f64 grad_scale),                                                                           \
     need(p, n, f32s), need(m, n, f32s), need(v, n, f32s), optional(p16, n, bf16s), need(g, n, f32s),              \
     require(step >= 1, "step counts from 1"), cost(0, 0))                                                         \
  /* out[0] = Σ x², summed in float64 over blocks of a fixed size, so that the thread count does not change it. */ \
  OP(sum_squares, (Out out, In x, i64 n), need(out, 1, f64s), need(x, n, floats),                                  \
     cost(0, 8 * ((n + kSumBlock - 1) / kSumBlock)))                                                               \
  /* out[0] = Σ x in float64, likewise. */                                                                         \
  OP(sum, (Out out, In x, i64 n), need(out, 1, f64s), need(x, n, floats),                                          \
     cost(0, 8 * ((n + kSumBlock - 1) / kSumBlock)))                                                               \
  /* y = a·x + b·z (z optional); y may be x or z. */                                                               \
  OP(axpby, (Out y, In x, In z, i64 n, f64 a, f64 b),                                                              \
     need(y, n, floats), need(x, n, floats), optional(z, n, floats), cost(0, 0))                                   \
  /* y = x with y's type: bfloat16 rounds to nearest even, int32 drops the fraction, uint8 (a truth value) is x ≠ 0. */ \
  OP(cast, (Out y, In x, i64 n), need(y, n, castable), need(x, n, castable), cost(0, 0))                           \
  OP(fill, (Out y, i64 n, f64 value), need(y, n, castable), cost(0, 0))                                            \
  /* y[i] ~ N(0, std²), a function of (seed, stream, i) alone. */                                                  \
  OP(fill_normal, (Out y, i64 n, i64 seed, i64 stream, f64 std), need(y, n, f32s), cost(0, 0))                     \
  /* TF.js's elementwise kernels of two tensors: y, dense [d0, d1, d2, d3], = a ∘ b, each read through strides in   \
     elements (0 repeats a value). code: 0 a+b, 1 a−b, 2 a·b, 3 a/b, 4 max, 5 min, 6 (a−b)²; with y uint8: 7 =, 8 ≠,  \
     9 <, 10 ≤, 11 >, 12 ≥. */                                                                                     \
  OP(binary,                                                                                                       \
     (Out y, In a, In b, i64 code, i64 d0, i64 d1, i64 d2, i64 d3, i64 a0, i64 a1, i64 a2, i64 a3, i64 b0, i64 b1,   \
      i64 b2, i64 b3),                                                                                             \
     need(y, strided_extent(0, d0, d1, d2, d3, d1 * d2 * d3, d2 * d3, d3, 1), f32s | i32s | u8s),                  \
     need(a, strided_extent(0, d0, d1, d2, d3, a0, a1, a2, a3), f32s | i32s),                                      \
     need(b, strided_extent(0, d0, d1, d2, d3, b0, b1, b2, b3), f32s | i32s), same_type(a, b),                     \
     require(code <= 12, "no operation " + text(code)),                                                            \
     require(code < 7 ? y.dtype == a.dtype : y.dtype == DType::u8,                                                 \
             code < 7 ? "y has another type than its operands" : "y of a comparison is uint8"),                    \
     require(code != 3 || a.dtype == DType::f32, "division is for float32"), cost(0, 0))                           \
  /* And of one: code 0 −x, 1 |x|, 2 x², 3 √x, 4 1/√x, 5 1/x, 6 eˣ, 7 ln x, 8 1/(1+e⁻ˣ), 9 tanh x. */                \
  OP(unary, (Out y, In x, i64 code, i64 n), need(y, n, f32s), need(x, n, f32s),                                    \
     require(code <= 9, "no operation " + text(code)), cost(0, 0))                                                 \
  /* y [outer, inner] of x [outer, n, inner]: code 0 sum, 1 mean, 2 max, 3 min over n. Sums of float32 in float64. */ \
  OP(reduce_axis, (Out y, In x, i64 code, i64 outer, i64 n, i64 inner),                                              \
     need(y, outer * inner, f32s | i32s), need(x, outer * n * inner, f32s | i32s), same_type(y, x),                \
     require(code <= 3, "no operation " + text(code)),                                                             \
     require(code != 1 || x.dtype == DType::f32, "the mean is for float32"), cost(0, 0))                           \
  /* y[y_offset + i·ys] = x[x_offset + i·xs] for each index i of [d0, d1, d2, d3]: transposes, slices, concats. */  \
  OP(copy_strided,                                                                                                 \
     (Out y, In x, i64 y_offset, i64 x_offset, i64 d0, i64 d1, i64 d2, i64 d3, i64 y0, i64 y1, i64 y2, i64 y3,     \
      i64 x0, i64 x1, i64 x2, i64 x3),                                                                             \
     need(y, strided_extent(y_offset, d0, d1, d2, d3, y0, y1, y2, y3), numbers),                                   \
     need(x, strided_extent(x_offset, d0, d1, d2, d3, x0, x1, x2, x3), numbers), same_type(y, x), cost(0, 0))      \
  /* Rows of probabilities: exp(x − max) / Σ. */                                                                   \
  OP(softmax, (Out y, In x, i64 rows, i64 dim), need(y, rows * dim, f32s), need(x, rows * dim, f32s), cost(0, 0))

namespace tstrain {

constexpr i64 kSumBlock = 4096;

struct Context {
  Device& device;
  void* workspace;  // as many bytes as the contract's cost() says
};

struct OpTable {
  const char* instruction_set;
  // The parameters of the entry, with the context in front.
  template <class F>
  struct Signature;
  template <class... A>
  struct Signature<void(A...)> {
    using type = void (*)(const Context&, A...);
  };
#define TSTRAIN_MEMBER(name, parameters, ...) Signature<void parameters>::type name;
  TSTRAIN_OPS(TSTRAIN_MEMBER)
#undef TSTRAIN_MEMBER
};

// The tables that exist; a processor gets the best one it can run.
extern const OpTable cpu_table_sse, cpu_table_avx2, cpu_table_avx512;
extern const OpTable meta_table;

struct Cost {
  f64 flops;
  i64 workspace;
};

// The elements that indices of [d0, d1, d2, d3] reach through strides, from 0 on.
inline i64 strided_extent(i64 offset, i64 d0, i64 d1, i64 d2, i64 d3, i64 s0, i64 s1, i64 s2, i64 s3) {
  if (d0 == 0 || d1 == 0 || d2 == 0 || d3 == 0) return 0;
  return offset + (d0 - 1) * s0 + (d1 - 1) * s1 + (d2 - 1) * s2 + (d3 - 1) * s3 + 1;
}

i64 gemm_workspace(Out c, In a, In b, i64 m, i64 n, i64 k, bool trans_a, bool trans_b, bool accumulate);
i64 attention_forward_workspace(i64 max_k, i64 head_dim);
i64 attention_backward_workspace(i64 max_tokens, i64 head_dim);

}  // namespace tstrain
