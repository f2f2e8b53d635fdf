// The GEMMs of oneDNN, where the addon is built with it. Works with 2.6 (Debian 12) and 3.x.
#pragma once
#include "../tensor.h"

namespace tstrain {

// C[m,n] = A·B + addend as in the op table. False when oneDNN does not take the type, or there is nothing to add up;
// nothing was done then. scratch: onednn_gemm_scratch() bytes.
bool onednn_gemm(Out c, In a, In b, In addend, i64 m, i64 n, i64 k, bool trans_a, bool trans_b, void* scratch);
i64 onednn_gemm_scratch(Out c, In a, In b, In addend, i64 m, i64 n, i64 k, bool trans_a, bool trans_b);
// Whether onednn_gemm() would do it.
bool onednn_takes(DType ab);

// How a bfloat16 GEMM is done: by oneDNN on AMX or AVX512-BF16, or in float32 (operands are widened while they are
// packed).
enum class Bf16Gemm { float32, avx512_bf16, amx };
Bf16Gemm bf16_gemm();
const char* name_of(Bf16Gemm path);

// Products of bfloat16 matrices are done on whole steps of rows where there is room.
constexpr i64 kRowStep = 32;
// The room for it: elements behind a matrix that takes part in products of `type`. None where oneDNN does not do them.
i64 row_slack(DType type, i64 rows, i64 columns);

// Of oneDNN as linked, or "" when the addon was built without it or TSTRAIN_ONEDNN=0 asks for the built-in GEMM (to
// compare, to debug).
const char* onednn_version();

}  // namespace tstrain
