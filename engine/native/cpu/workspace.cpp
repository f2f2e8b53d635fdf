// How much workspace an op needs: asked by its contract, on every device, before it runs.
#include "attention_scratch.h"
#include "gemm_blocks.h"
#include "onednn.h"

namespace tstrain {

i64 gemm_workspace(Out c, In a, In b, i64 m, i64 n, i64 k, bool trans_a, bool trans_b, bool accumulate) {
  if (m == 1 && trans_b) return 0;
  if (onednn_takes(a.dtype)) return onednn_gemm_scratch(c, a, b, m, n, k, trans_a, trans_b, accumulate);
  i64 wide = c.dtype == DType::bf16 && k > kGemmDepth ? m * n : 0;
  return 4 * (gemm_pack_floats(thread_count()) + wide);
}

i64 attention_forward_workspace(i64 max_k, i64 head_dim) {
  return 4 * thread_count() * attention_forward_floats(max_k, head_dim);
}

i64 attention_backward_workspace(i64 max_tokens, i64 head_dim) {
  return 4 * thread_count() * attention_backward_floats(max_tokens, head_dim);
}

}  // namespace tstrain
