// Which build of the CPU kernels this processor runs, and how it multiplies bfloat16.
#pragma once
#include "../ops.h"

namespace tstrain {

// The best table the processor can run. TSTRAIN_ISA=sse|avx2|avx512 asks for a lower one (to compare, to debug).
const OpTable& best_cpu_table();

// How a bfloat16 GEMM is done: "amx", "avx512_bf16", or "float32" (operands are widened while they are packed).
const char* bf16_gemm_path();

// Of oneDNN as linked, or "" when the addon was built without it or TSTRAIN_ONEDNN=0 asks for the built-in GEMM (to
// compare, to debug).
const char* onednn_version();

}  // namespace tstrain
