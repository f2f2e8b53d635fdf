#include "split_float.h"

#include "kernels.h"

namespace tstrain::TSTRAIN_ISA {

void split_float(const Context&, Out high, Out low, In x, i64 n) {
  const float* from = x.as<float>();
  auto* highs = high.as<bf16>();
  auto* lows = low.as<std::int16_t>();
  if (lows) {
#pragma omp parallel for simd schedule(static) if (n >= kParallelFrom)
    for (i64 i = 0; i < n; i++) {
      highs[i] = high_of(from[i]);
      lows[i] = low_of(from[i]);
    }
  } else {
#pragma omp parallel for simd schedule(static) if (n >= kParallelFrom)
    for (i64 i = 0; i < n; i++) highs[i] = high_of(from[i]);
  }
}

void join_float(const Context&, Out x, In high, In low, i64 n) {
  float* to = x.as<float>();
  const auto* highs = high.as<bf16>();
  const auto* lows = low.as<std::int16_t>();
#pragma omp parallel for simd schedule(static) if (n >= kParallelFrom)
  for (i64 i = 0; i < n; i++) to[i] = joined(highs[i], lows[i]);
}

}  // namespace tstrain::TSTRAIN_ISA
