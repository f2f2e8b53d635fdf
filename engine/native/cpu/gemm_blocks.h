// Block sizes of the built-in GEMM, the same for every instruction set so that the plan need not know it.
#pragma once
#include "../tensor.h"

namespace tstrain {

// kDepth × a tile's columns stays in L1, kRows × kDepth in L2, kDepth × kColumns in L3.
constexpr i64 kGemmDepth = 256, kGemmRows = 144, kGemmColumns = 3072;

// A packed block of A (kGemmRows is a multiple of every tile's rows), and a tile for the edges of C.
inline i64 gemm_thread_floats() { return kGemmRows * kGemmDepth + 16 * 32; }
inline i64 gemm_pack_floats(int threads) { return kGemmDepth * (kGemmColumns + 32) + threads * gemm_thread_floats(); }

}  // namespace tstrain
