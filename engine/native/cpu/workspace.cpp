// The workspace that ops need on the CPU, in bytes.
#include "attention_scratch.h"
#include "cpu.h"
#include "gemm_blocks.h"
#include "onednn.h"
#include "sum_blocks.h"
#include "threads.h"

namespace tstrain {

namespace {

constexpr i64 kFloat = 4, kDouble = 8, kKey = 8;

i64 per_thread(Checked bytes) { return i64(thread_count() * bytes); }

WorkspaceTable table() {
  WorkspaceTable t;
  t.gemm = [](Out c, In a, In b, In addend, i64 m, i64 n, i64 k, bool trans_a, bool trans_b) -> i64 {
    if (m == 1 && trans_b) return 0;
    if (onednn_takes(a.dtype)) return onednn_gemm_scratch(c, a, b, addend, m, n, k, trans_a, trans_b);
    // A row of products too long for one panel is summed up in float32 beside c.
    Checked wide = c.dtype == DType::bf16 && k > kGemmDepth ? Checked(m) * n : 0;
    return i64(kFloat * (gemm_pack_floats(thread_count()) + wide));
  };
  // The ids with their places, sorted, where a row is rounded.
  t.scatter_add_rows = [](Out table, In, In, i64 rows, i64, i64) -> i64 {
    return table.dtype == DType::bf16 ? i64(kKey * Checked(rows)) : 0;
  };
  // Each thread's part of dw.
  t.rmsnorm_backward = [](Out, Out, In, In, In, In, In, i64, i64 dim) { return per_thread(kFloat * Checked(dim)); };
  t.attention_forward = [](Out, Out, In, In, In, In, In, In, i64, i64, i64, i64 head_dim, i64, i64, i64, i64, i64 max_k,
                           f64, f64) {
    Checked floats = attention_forward_floats<Checked>(max_k, head_dim);
    return per_thread(kFloat * floats);
  };
  t.attention_backward = [](Out, In, In, In, In, In, i64, i64, i64, i64 head_dim, i64, i64 max_tokens, f64, f64) {
    Checked floats = attention_backward_floats<Checked>(max_tokens, head_dim);
    return per_thread(kFloat * floats);
  };
  // The exponentials of a row.
  t.cross_entropy = [](Out, Out, Out, In, In, In, i64, i64 vocab) { return per_thread(kFloat * Checked(vocab)); };
  t.sum_squares = t.sum = [](Out, In, i64 n) { return kDouble * sum_blocks(n); };
  return t;
}

}  // namespace

const WorkspaceTable cpu_workspaces = table();

}  // namespace tstrain
