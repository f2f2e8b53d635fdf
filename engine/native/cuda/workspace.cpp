// The workspace that ops need on a card, in bytes: functions of the arguments alone, so that a plan needs no card.
#include "card.h"

namespace tstrain::cuda {

const WorkspaceTable workspaces = [] {
  WorkspaceTable t;
  return t;
}();

}  // namespace tstrain::cuda
