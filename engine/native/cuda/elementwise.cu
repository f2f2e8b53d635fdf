// Elementwise over n elements, bound by memory: one thread a vector, each value is read once and written once.
#ifdef __CUDACC_RTC__
#include "on_card.h"

// y may be x or z: each thread has read its elements when it writes them.
template <class Y, class X, class Z>
__global__ void __launch_bounds__(256) axpby(Y* y, const X* x, const Z* z, i64 n, float a, float b) {
  constexpr int N = lanes_of<Y, X, Z>();
  each<N>(n, aligned<N>(y) && aligned<N>(x) && aligned<N>(z), [&](i64 i, auto lanes) {
    float v[lanes.count], other[lanes.count];
    load(v, x + i);
    if (z) {
      load(other, z + i);
      for (int j = 0; j < lanes.count; j++) v[j] = fmaf(a, v[j], b * other[j]);
    } else {
      for (int j = 0; j < lanes.count; j++) v[j] *= a;
    }
    store(y + i, v);
  });
}

__device__ inline void convert(float& y, float x) { y = x; }
// The card makes one pattern of all that are no numbers; others keep theirs and become quiet.
__device__ inline void convert(bf16& y, float x) {
  if (x == x) y = rounded(x);
  else y.bits = u16(__float_as_uint(x) >> 16 | 0x40);
}
// As JavaScript does it: the fraction goes, what is too large wraps around, what is no number becomes 0.
__device__ inline void convert(i32& y, float x) { y = fabsf(x) < 9.2e18f ? i32(i64(x)) : 0; }
__device__ inline void convert(u8& y, float x) { y = x != 0; }

__device__ inline float load(const i32* p) { return float(*p); }
__device__ inline float load(const u8* p) { return float(*p); }

template <class A, class B>
struct Same {
  enum { yes = false };
};
template <class A>
struct Same<A, A> {
  enum { yes = true };
};

template <class Y, class X>
__global__ void __launch_bounds__(256) cast(Y* y, const X* x, i64 n) {
  constexpr int N = lanes_of<Y, X>();
  each<N>(n, aligned<N>(y) && aligned<N>(x), [&](i64 i, auto lanes) {
    auto from = take<lanes.count>(x + i);
    if constexpr (Same<Y, X>::yes) {
      put(y + i, from);
    } else {
      Vector<Y, lanes.count> to;
      for (int j = 0; j < lanes.count; j++) convert(to.at[j], load(from.at + j));
      put(y + i, to);
    }
  });
}

template <class Y>
__global__ void __launch_bounds__(256) fill(Y* y, i64 n, double value) {
  constexpr int N = lanes_of<Y>();
  Y element;
  // A whole number need not fit a float.
  if constexpr (Same<Y, i32>::yes || Same<Y, i16>::yes) element = Y(value);
  else convert(element, float(value));
  each<N>(n, aligned<N>(y), [&](i64 i, auto lanes) {
    Vector<Y, lanes.count> to;
    for (int j = 0; j < lanes.count; j++) to.at[j] = element;
    put(y + i, to);
  });
}

KERNELS(axpby<float, float, float>, axpby<float, float, bf16>, axpby<float, bf16, float>, axpby<float, bf16, bf16>,
        axpby<bf16, float, float>, axpby<bf16, float, bf16>, axpby<bf16, bf16, float>, axpby<bf16, bf16, bf16>)
KERNELS(cast<float, float>, cast<float, bf16>, cast<float, i32>, cast<float, u8>)
KERNELS(cast<bf16, float>, cast<bf16, bf16>, cast<bf16, i32>, cast<bf16, u8>)
KERNELS(cast<i32, float>, cast<i32, bf16>, cast<i32, i32>, cast<i32, u8>)
KERNELS(cast<u8, float>, cast<u8, bf16>, cast<u8, i32>, cast<u8, u8>)
KERNELS(fill<float>, fill<bf16>, fill<i32>, fill<u8>, fill<i16>)

#else
#include "launch.h"
#include "parts.h"

namespace tstrain::cuda {

void axpby(const Context& context, Out y, In x, In z, i64 n, f64 a, f64 b) {
  DType other = z ? z.dtype : x.dtype;
  launch(context, kernel("axpby", {y.dtype, x.dtype, other}), vectors(n, larger(larger(y.dtype, x.dtype), other)),
         y.data, x.data, z.data, n, float(a), float(b));
}

void cast(const Context& context, Out y, In x, i64 n) {
  launch(context, kernel("cast", {y.dtype, x.dtype}), vectors(n, larger(y.dtype, x.dtype)), y.data, x.data, n);
}

void fill(const Context& context, Out y, i64 n, f64 value) {
  launch(context, kernel("fill", {y.dtype}), vectors(n, y.dtype), y.data, n, value);
}

}  // namespace tstrain::cuda

#endif
