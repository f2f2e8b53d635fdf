#include <algorithm>

#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

namespace {

// One strided pass: y is dense in d, a and b are read through strides (0 repeats). Rows are cut into
// pieces so that one long row is shared out among threads as well as many short ones.
template <class Y, class T, class F>
void strided(Y* y, const T* a, const T* b, const Four& d, const Four& as, const Four& bs, F f) {
  i64 pieces = (d[3] + kParallelFrom - 1) / kParallelFrom, rows = d[0] * d[1] * d[2];
#pragma omp parallel for schedule(static) if (rows * d[3] >= kParallelFrom)
  for (i64 task = 0; task < rows * pieces; task++) {
    i64 row = task / pieces, from = task % pieces * kParallelFrom, n = std::min(d[3] - from, kParallelFrom);
    i64 i2 = row % d[2], i1 = row / d[2] % d[1], i0 = row / d[2] / d[1];
    Y* to = y + row * d[3] + from;
    const T* p = a + i0 * as[0] + i1 * as[1] + i2 * as[2] + from * as[3];
    const T* q = b + i0 * bs[0] + i1 * bs[1] + i2 * bs[2] + from * bs[3];
    // The inner loop vectorises only where its strides are known.
    if (as[3] == 1 && bs[3] == 1) {
#pragma omp simd
      for (i64 i = 0; i < n; i++) to[i] = f(p[i], q[i]);
    } else if (as[3] == 1 && bs[3] == 0) {
      T right = *q;
#pragma omp simd
      for (i64 i = 0; i < n; i++) to[i] = f(p[i], right);
    } else if (as[3] == 0 && bs[3] == 1) {
      T left = *p;
#pragma omp simd
      for (i64 i = 0; i < n; i++) to[i] = f(left, q[i]);
    } else {
      for (i64 i = 0; i < n; i++) to[i] = f(p[i * as[3]], q[i * bs[3]]);
    }
  }
}

// Whole numbers wrap around, as they do in an Int32Array.
inline std::int32_t add(std::int32_t a, std::int32_t b) { return std::int32_t(std::uint32_t(a) + std::uint32_t(b)); }
inline std::int32_t subtract(std::int32_t a, std::int32_t b) {
  return std::int32_t(std::uint32_t(a) - std::uint32_t(b));
}
inline std::int32_t multiply(std::int32_t a, std::int32_t b) {
  return std::int32_t(std::uint32_t(a) * std::uint32_t(b));
}
inline float add(float a, float b) { return a + b; }
inline float subtract(float a, float b) { return a - b; }
inline float multiply(float a, float b) { return a * b; }

template <class T>
void dispatch(Out y, In a, In b, Binary op, const Four& d, const Four& as, const Four& bs) {
  auto arithmetic = [&](auto f) { strided(y.as<T>(), a.as<T>(), b.as<T>(), d, as, bs, f); };
  auto comparison = [&](auto f) { strided(y.as<std::uint8_t>(), a.as<T>(), b.as<T>(), d, as, bs, f); };
  switch (op) {
    case Binary::add: return arithmetic([](T p, T q) { return add(p, q); });
    case Binary::subtract: return arithmetic([](T p, T q) { return subtract(p, q); });
    case Binary::multiply: return arithmetic([](T p, T q) { return multiply(p, q); });
    case Binary::divide:
      // The contract lets float32 alone come here.
      if constexpr (std::is_same_v<T, float>) return arithmetic([](T p, T q) { return p / q; });
      else return;
    // A NaN on either side is the result.
    case Binary::maximum: return arithmetic([](T p, T q) { return p > q || p != p ? p : q; });
    case Binary::minimum: return arithmetic([](T p, T q) { return p < q || p != p ? p : q; });
    case Binary::squared_difference:
      return arithmetic([](T p, T q) { return multiply(subtract(p, q), subtract(p, q)); });
    case Binary::equal: return comparison([](T p, T q) { return p == q; });
    case Binary::not_equal: return comparison([](T p, T q) { return p != q; });
    case Binary::less: return comparison([](T p, T q) { return p < q; });
    case Binary::less_equal: return comparison([](T p, T q) { return p <= q; });
    case Binary::greater: return comparison([](T p, T q) { return p > q; });
    case Binary::greater_equal: return comparison([](T p, T q) { return p >= q; });
  }
}

}  // namespace

void binary(const Context&, Out y, In a, In b, Binary op, Four shape, Four a_strides, Four b_strides) {
  if (a.dtype == DType::i32) dispatch<std::int32_t>(y, a, b, op, shape, a_strides, b_strides);
  else dispatch<float>(y, a, b, op, shape, a_strides, b_strides);
}

}  // namespace tstrain::TSTRAIN_ISA
