// RoPE, bound by memory: x is read and written once; a token's row of angles stays in the cache. A block takes a token, a
// thread one vector of each half of a head at a time.
#ifdef __CUDACC_RTC__
#include "on_card.h"

template <int N, class T>
__device__ inline void turn_row(T* x, const float* cos, const float* sin, i64 heads, i64 half, float sign) {
  u32 vectors = u32(half / N);
  for (u32 item = threadIdx.x; item < u32(heads) * vectors; item += blockDim.x) {
    i64 i = i64(item % vectors) * N;
    T *first = x + item / vectors * 2 * half + i, *second = first + half;
    float a[N], b[N];
    load(a, first);
    load(b, second);
    for (int j = 0; j < N; j++) {
      float c = cos[i + j], s = sign * sin[i + j], left = a[j], right = b[j];
      a[j] = fmaf(left, c, -(right * s));
      b[j] = fmaf(right, c, left * s);
    }
    store(first, a);
    store(second, b);
  }
}

template <class T>
__global__ void __launch_bounds__(256) rope(T* x, const float* cos, const float* sin, const i32* index, i64 heads,
                                            i64 head_dim, i64 stride, bool inverse) {
  constexpr int N = lanes_of<T>();
  i64 half = head_dim / 2, row = index[blockIdx.x] * half;
  float sign = inverse ? -1.f : 1.f;
  if (half % N == 0 && stride % N == 0 && aligned<N>(x))
    turn_row<N>(x + blockIdx.x * stride, cos + row, sin + row, heads, half, sign);
  else turn_row<1>(x + blockIdx.x * stride, cos + row, sin + row, heads, half, sign);
}

KERNELS(rope<float>, rope<bf16>)

#else
#include "launch.h"
#include "parts.h"

namespace tstrain::cuda {

void rope(const Context& context, Out x, In cos, In sin, In index, i64 tokens, i64 heads, i64 head_dim, i64 stride,
          bool inverse) {
  launch(context, kernel("rope", {x.dtype}), Grid(tokens).with_threads(row_threads(heads * head_dim / 2, x.dtype, 256)),
         x.data, cos.data, sin.data, index.data, heads, head_dim, stride, inverse);
}

}  // namespace tstrain::cuda

#endif
