#include <algorithm>

#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

namespace {

// One strided pass: y is dense [d0, d1, d2, d3], a and b are read through strides (0 repeats). Rows are cut into
// pieces so that one long row is shared out among threads as well as many short ones.
template <class Y, class T, class F>
void strided(Y* y, const T* a, const T* b, const i64 (&d)[4], const i64 (&as)[4], const i64 (&bs)[4], F f) {
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
inline std::int32_t subtract(std::int32_t a, std::int32_t b) { return std::int32_t(std::uint32_t(a) - std::uint32_t(b)); }
inline std::int32_t multiply(std::int32_t a, std::int32_t b) { return std::int32_t(std::uint32_t(a) * std::uint32_t(b)); }
inline float add(float a, float b) { return a + b; }
inline float subtract(float a, float b) { return a - b; }
inline float multiply(float a, float b) { return a * b; }

template <class T>
void dispatch(Out y, In a, In b, i64 code, const i64 (&d)[4], const i64 (&as)[4], const i64 (&bs)[4]) {
  auto arithmetic = [&](auto f) {
    strided(y.as<T>(), a.as<T>(), b.as<T>(), d, as, bs, f);
  };
  auto comparison = [&](auto f) {
    strided(y.as<std::uint8_t>(), a.as<T>(), b.as<T>(), d, as, bs, f);
  };
  switch (code) {
    case 0: return arithmetic([](T p, T q) { return add(p, q); });
    case 1: return arithmetic([](T p, T q) { return subtract(p, q); });
    case 2: return arithmetic([](T p, T q) { return multiply(p, q); });
    case 3:
      // The contract lets float32 alone come here.
      if constexpr (std::is_same_v<T, float>) return arithmetic([](T p, T q) { return p / q; });
      else return;
    // A NaN on either side is the result.
    case 4: return arithmetic([](T p, T q) { return p > q || p != p ? p : q; });
    case 5: return arithmetic([](T p, T q) { return p < q || p != p ? p : q; });
    case 6: return arithmetic([](T p, T q) { return multiply(subtract(p, q), subtract(p, q)); });
    case 7: return comparison([](T p, T q) { return p == q; });
    case 8: return comparison([](T p, T q) { return p != q; });
    case 9: return comparison([](T p, T q) { return p < q; });
    case 10: return comparison([](T p, T q) { return p <= q; });
    case 11: return comparison([](T p, T q) { return p > q; });
    case 12: return comparison([](T p, T q) { return p >= q; });
  }
}

}  // namespace

void binary(const Context&, Out y, In a, In b, i64 code, i64 d0, i64 d1, i64 d2, i64 d3, i64 a0, i64 a1, i64 a2, i64 a3,
            i64 b0, i64 b1, i64 b2, i64 b3) {
  const i64 d[4] = {d0, d1, d2, d3}, as[4] = {a0, a1, a2, a3}, bs[4] = {b0, b1, b2, b3};
  if (a.dtype == DType::i32) dispatch<std::int32_t>(y, a, b, code, d, as, bs);
  else dispatch<float>(y, a, b, code, d, as, bs);
}

}  // namespace tstrain::TSTRAIN_ISA
