// The workspace that ops need on a card, in bytes: functions of the arguments alone, so that a plan needs no card.
#include "../checked.h"
#include "card.h"
#include "cublaslt.h"
#include "parts.h"

namespace tstrain::cuda {

namespace {

constexpr i64 kFloat = 4, kDouble = 8, kKey = 8;

WorkspaceTable table() {
  WorkspaceTable t;
  // Each part's sum of dw.
  t.rmsnorm_backward = [](Out, Out dw, In, In, In, In, In, i64 rows, i64 dim) -> i64 {
    return dw ? i64(kFloat * Checked(norm_parts(rows).count) * dim) : 0;
  };
  t.sum_columns = [](Out, In, i64 rows, i64 columns) -> i64 {
    return i64(kDouble * Checked(column_parts(rows).count) * columns);
  };
  // The ids with their places, to be sorted from here to there.
  t.scatter_add_rows = [](Out, In, In, i64 rows, i64, i64) -> i64 { return i64(2 * kKey * Checked(rows)); };
  t.sum_squares = t.sum = [](Out, In, i64 n) -> i64 { return kDouble * sum_parts(n).count; };
  t.reduce_axis = [](Out, In x, Reduction op, i64 outer, i64 n, i64 inner) -> i64 {
    i64 parts = axis_parts(outer, n, inner).count;
    return parts > 1 ? size_of(partial_type(op, x.dtype)) * parts * outer * inner : 0;
  };
  // delta
  t.attention_backward = [](Out, In, In, In, In, In, i64, i64 heads, i64, i64, i64 tokens, i64, f64, f64) {
    return i64(kFloat * Checked(heads) * tokens);
  };
  t.gemm = [](Out, In, In, In, i64 m, i64 n, i64 k, bool, bool) {
    return m == 0 || n == 0 || k == 0 ? 0 : kCublasLtWorkspace;
  };
  return t;
}

}  // namespace

const WorkspaceTable workspaces = table();

}  // namespace tstrain::cuda
