// Rows of probabilities, one block a row. x is read from memory once: the second and third reading find what the cache
// still holds of the row.
#ifdef __CUDACC_RTC__
#include "on_card.h"

template <bool kWide>
__device__ inline void softmax_row(float* y, const float* x, i64 dim) {
  i64 step = blockDim.x * 4ll;
  Exponentials sums;
  for (i64 i = threadIdx.x * 4ll; i < dim; i += step) {
    float v[4];
    load<kWide>(v, x + i, dim - i);
    sums.add(v, dim - i);
  }
  sums.together();
  float scale = 1.f / sums.sum;
  for (i64 i = threadIdx.x * 4ll; i < dim; i += step) {
    float v[4];
    load<kWide>(v, x + i, dim - i);
    for (int j = 0; j < 4; j++) v[j] = exp_or_0(v[j] - sums.top) * scale;
    store<kWide>(y + i, v, dim - i);
  }
}

// y may be x: a thread writes the elements that it has read.
__global__ void __launch_bounds__(512) softmax(float* y, const float* x, i64 dim) {
  y += blockIdx.x * dim;
  x += blockIdx.x * dim;
  if (dim % 4 == 0 && aligned<4>(y, x)) softmax_row<true>(y, x, dim);
  else softmax_row<false>(y, x, dim);
}

KERNELS(softmax)

#else
#include "launch.h"
#include "parts.h"

namespace tstrain::cuda {

void softmax(const Context& context, Out y, In x, i64 rows, i64 dim) {
  launch(context, kernel("softmax"), Grid(rows).with_threads(row_threads(dim, DType::f32, 512)), y.data, x.data, dim);
}

}  // namespace tstrain::cuda

#endif
