// Elementwise kernels of two tensors, bound by memory: y is written in order, a and b are read through strides, in vectors
// where both are dense or repeat one value along the last axis.

// In the order of ops.h, which the host's half checks.
#define BINARY(OP)                                                                                        \
  OP(add)                                                                                                 \
  OP(subtract)                                                                                            \
  OP(multiply) OP(divide) OP(maximum) OP(minimum) OP(squared_difference) OP(equal) OP(not_equal) OP(less) \
      OP(less_equal) OP(greater) OP(greater_equal)

#ifdef __CUDACC_RTC__
#include "on_card.h"

#define ENTRY(name) name,
enum class Binary : i64 { BINARY(ENTRY) };
#undef ENTRY

// Whole numbers wrap around, as they do in an Int32Array.
__device__ inline i32 add(i32 a, i32 b) { return i32(u32(a) + u32(b)); }
__device__ inline i32 subtract(i32 a, i32 b) { return i32(u32(a) - u32(b)); }
__device__ inline i32 multiply(i32 a, i32 b) { return i32(u32(a) * u32(b)); }
__device__ inline float add(float a, float b) { return a + b; }
__device__ inline float subtract(float a, float b) { return a - b; }
__device__ inline float multiply(float a, float b) { return a * b; }

template <class T>
__device__ inline T value_of(Binary op, T a, T b) {
  switch (op) {
    case Binary::add: return add(a, b);
    case Binary::subtract: return subtract(a, b);
    case Binary::multiply: return multiply(a, b);
    case Binary::divide: return a / b;
    // A NaN on either side is the result.
    case Binary::maximum: return a > b || a != a ? a : b;
    case Binary::minimum: return a < b || a != a ? a : b;
    default: return multiply(subtract(a, b), subtract(a, b));
  }
}

template <class T>
__device__ inline bool is_so(Binary op, T a, T b) {
  switch (op) {
    case Binary::equal: return a == b;
    case Binary::not_equal: return a != b;
    case Binary::less: return a < b;
    case Binary::less_equal: return a <= b;
    case Binary::greater: return a > b;
    default: return a >= b;
  }
}

// Whether vectors of N along the last axis are aligned, or one value.
template <int N, class T>
__device__ inline bool in_vectors(const T* p, const Four& strides) {
  if (strides.at[3] == 0) return true;
  return strides.at[3] == 1 && aligned<N>(p) && strides.at[0] % N == 0 && strides.at[1] % N == 0 &&
         strides.at[2] % N == 0;
}

template <int N, class T>
__device__ inline Vector<T, N> take_along(const T* p, i64 stride) {
  if (stride != 0) return take<N>(p);
  Vector<T, N> v;
  for (int j = 0; j < N; j++) v.at[j] = *p;
  return v;
}

// y may be a or b where they lie as y does.
template <class Y, class T>
__global__ void __launch_bounds__(256)
    binary(Y* y, const T* a, const T* b, i64 op, Four shape, Four a_strides, Four b_strides) {
  constexpr int N = 4;
  bool wide = shape.at[3] % N == 0 && aligned<N>(y) && in_vectors<N>(a, a_strides) && in_vectors<N>(b, b_strides);
  each<N>(shape.at[0] * shape.at[1] * shape.at[2] * shape.at[3], wide, [&](i64 i, auto lanes) {
    Four index = index_in(shape, i);
    auto left = take_along<lanes.count>(a + offset(index, a_strides), a_strides.at[3]);
    auto right = take_along<lanes.count>(b + offset(index, b_strides), b_strides.at[3]);
    Vector<Y, lanes.count> to;
    for (int j = 0; j < lanes.count; j++)
      if constexpr (sizeof(Y) == 1) to.at[j] = is_so(Binary(op), left.at[j], right.at[j]);
      else to.at[j] = value_of(Binary(op), left.at[j], right.at[j]);
    put(y + i, to);
  });
}

KERNELS(binary<float, float>, binary<i32, i32>, binary<u8, float>, binary<u8, i32>)

#else
#include "launch.h"
#include "parts.h"

namespace tstrain::cuda {

#define ENTRY(name) Binary::name,
constexpr Binary kWords[] = {BINARY(ENTRY)};
#undef ENTRY
static_assert(all_in_order(kWords), "BINARY has other words than ops.h, or another order");

void binary(const Context& context, Out y, In a, In b, Binary op, Four shape, Four a_strides, Four b_strides) {
  launch(context, kernel("binary", {y.dtype, a.dtype}), vectors(shape[0] * shape[1] * shape[2] * shape[3], a.dtype),
         y.data, a.data, b.data, i64(op), shape, a_strides, b_strides);
}

}  // namespace tstrain::cuda

#endif
