// The workspace that ops need on a card, in bytes: functions of the arguments alone, so that a plan needs no card.
#include "card.h"

namespace tstrain::cuda {

const WorkspaceTable workspaces = [] {
  WorkspaceTable t;
  // delta
  t.attention_backward = [](Out, In, In, In, In, In, i64, i64 heads, i64, i64, i64 tokens, i64, f64, f64) {
    return i64(4 * Checked(heads) * tokens);
  };
  return t;
}();

}  // namespace tstrain::cuda
