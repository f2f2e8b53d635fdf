// Sums in float64, bound by memory: x is read once. A block sums up a part of x, the second kernel the parts.
#ifdef __CUDACC_RTC__
#include "on_card.h"

template <bool kWide, class T>
__device__ inline double sum_part(const T* x, i64 n, bool squares) {
  constexpr int N = lanes_of<T>();
  double sum = 0;
#pragma unroll 4
  for (i64 i = threadIdx.x * N; i < n; i += 256 * N) {
    float v[N];
    load<kWide>(v, x + i, n - i);
    for (int j = 0; j < N; j++) sum = squares ? fma(double(v[j]), double(v[j]), sum) : sum + v[j];
  }
  return sum;
}

template <class T>
__global__ void __launch_bounds__(256) sum_terms(double* parts, const T* x, i64 n, i64 part, bool squares) {
  constexpr int N = lanes_of<T>();
  i64 from = blockIdx.x * part;
  x += from;
  n = min(part, n - from);
  double sum = n % N == 0 && aligned<N>(x) ? sum_part<true>(x, n, squares) : sum_part<false>(x, n, squares);
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(1024) sum_parts(double* out, const double* parts, i64 count) {
  double sum = 0;
  for (i64 i = threadIdx.x; i < count; i += 1024) sum += parts[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *out = sum;
}

KERNELS(sum_terms<float>, sum_terms<bf16>, sum_parts)

#else
#include "launch.h"
#include "parts.h"

namespace tstrain::cuda {

namespace {
void sum_of(const Context& context, Out out, In x, i64 n, bool squares) {
  Parts parts = sum_parts(n);
  launch(context, kernel("sum_terms", {x.dtype}), Grid(parts.count), context.workspace, x.data, n, parts.size, squares);
  launch(context, kernel("sum_parts"), Grid(1).with_threads(1024), out.data, context.workspace, parts.count);
}
}  // namespace

void sum_squares(const Context& context, Out out, In x, i64 n) { sum_of(context, out, x, n, true); }

void sum(const Context& context, Out out, In x, i64 n) { sum_of(context, out, x, n, false); }

}  // namespace tstrain::cuda

#endif
