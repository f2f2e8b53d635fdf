#include <algorithm>

#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

void softmax(const Context&, Out y, In x, i64 rows, i64 dim) {
#pragma omp parallel for schedule(static) if (rows * dim >= kParallelFrom)
  for (i64 r = 0; r < rows; r++) {
    const float* p = x.as<float>() + r * dim;
    float* to = y.as<float>() + r * dim;
    float most = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : most)
    for (i64 i = 0; i < dim; i++) most = std::max(most, p[i]);
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (i64 i = 0; i < dim; i++) total += to[i] = exp_float(p[i] - most);
    float scale = 1 / total;
#pragma omp simd
    for (i64 i = 0; i < dim; i++) to[i] *= scale;
  }
}

}  // namespace tstrain::TSTRAIN_ISA
