// The workspace that ops need on a card, in bytes: functions of the arguments alone, so that a plan needs no card.
#include "card.h"
#include "cublaslt.h"

namespace tstrain::cuda {

const WorkspaceTable workspaces = [] {
  WorkspaceTable t;
  // delta
  t.attention_backward = [](Out, In, In, In, In, In, i64, i64 heads, i64, i64, i64 tokens, i64, f64, f64) {
    return i64(4 * Checked(heads) * tokens);
  };
  t.gemm = [](Out, In, In, i64 m, i64 n, i64 k, bool, bool, bool) {
    return m == 0 || n == 0 || k == 0 ? 0 : kCublasLtWorkspace;
  };
  return t;
}();

}  // namespace tstrain::cuda
