// Which build of the CPU kernels this processor runs.
#pragma once
#include "../ops.h"

namespace tstrain {

// The best table the processor can run. TSTRAIN_ISA=sse|avx2|avx512 asks for a lower one (to compare, to debug).
const OpTable& best_cpu_table();

}  // namespace tstrain
