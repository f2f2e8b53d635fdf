// Matrix products by cuBLASLt: which of its algorithms does which, and on how many rows.
//
// Its heuristic knows little of beta, and is some percent off where it knows: the first time that a product comes up, the
// first of its choices are tried against the clock (trial.h), and the fastest that gives the same bits each time is taken.
// Another choice sums up in another order, so choices go with a run's checkpoint. They are kept on disk too, by card,
// driver and version of the library. TSTRAIN_CUDA_TUNE=0 takes the library's first choice without a try.
#pragma once
#include <string>

#include "../ops.h"

namespace tstrain::cuda {

// Every micro-batch has another number of tokens, and each shape must be tried: products are done on rows up to the next
// multiple of 128, beyond 4096 of a 32nd of the next power of two. (A tile of cuBLASLt's has 128 rows or more, so most of
// that costs nothing but where the rows are summed over.)
constexpr i64 kRowStep = 128;
i64 row_slack(DType type, i64 rows, i64 columns);

// For each 8 bytes of a gradient that are moved, a row brings 2 FLOPs: at what an H100 is known to reach, 700 TFLOP/s and
// 2.8 TB/s, that is even at 1000 rows (A100: 570, RTX 4090: 650).
constexpr i64 kGradientRows = 1024;

// C = A·B + addend as in the op table. False when there is no library, or no algorithm; nothing was done then.
bool cublaslt_gemm(const Context& context, Out c, In a, In b, In addend, i64 m, i64 n, i64 k, bool trans_a,
                   bool trans_b);

// See DeviceKind.
std::string chosen_products();
bool choose_products(const std::string& chosen);

// What became of products so far, for whoever wants to tell: how many cuBLASLt did (those of a CUDA graph when it was
// recorded), how many it had no algorithm for, and the first of those in words.
struct ProductCounts {
  i64 done = 0, declined = 0;
  std::string first_declined;
  // Shapes that were tried, how long that took, and those that there was no memory to try.
  i64 tried = 0, untried = 0;
  double seconds = 0;
};
const ProductCounts& product_counts();
// In words, as far as it is worth telling.
std::string product_account();

}  // namespace tstrain::cuda
