// The op table of a plan.
#pragma once
#include "../ops.h"

namespace tstrain {

extern const OpTable meta_table;

}  // namespace tstrain
