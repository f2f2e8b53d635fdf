// The GEMMs of oneDNN, where the addon is built with it. Works with 2.6 (Debian 12) and 3.x.
#pragma once
#include "../ops.h"

namespace tstrain {

// C[m,n] (+)= A·B as in the op table. False when oneDNN is not there or has no fast way for these types on this
// processor; nothing was done then. scratch: onednn_gemm_scratch() bytes.
bool onednn_gemm(Out c, In a, In b, i64 m, i64 n, i64 k, bool trans_a, bool trans_b, bool accumulate, void* scratch);
i64 onednn_gemm_scratch(DType c, DType ab, i64 m, i64 n, i64 k, bool trans_a, bool trans_b, bool accumulate);
// Whether onednn_gemm() would do it.
bool onednn_takes(DType c, DType ab);

}  // namespace tstrain
