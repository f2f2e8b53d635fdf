#include <algorithm>

#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

namespace {

// Columns that one task carries along, so that x is read row by row.
constexpr i64 kColumns = 256;

// y[o, i] = finish(step(… step(first, x[o, 0, i]) …, x[o, n−1, i])).
template <class T, class Sum, class Step, class Finish>
void reduce(T* y, const T* x, i64 outer, i64 n, i64 inner, Sum first, Step step, Finish finish) {
  i64 parts = (inner + kColumns - 1) / kColumns;
#pragma omp parallel for schedule(static) if (outer * n * inner >= kParallelFrom)
  for (i64 task = 0; task < outer * parts; task++) {
    i64 o = task / parts, from = task % parts * kColumns, columns = std::min(inner - from, kColumns);
    const T* p = x + o * n * inner + from;
    T* to = y + o * inner + from;
    if (columns == 1) {
      Sum s = first;
      for (i64 k = 0; k < n; k++) s = step(s, p[k * inner]);
      *to = finish(s);
    } else {
      Sum s[kColumns];
      std::fill_n(s, columns, first);
      for (i64 k = 0; k < n; k++)
#pragma omp simd
        for (i64 i = 0; i < columns; i++) s[i] = step(s[i], p[k * inner + i]);
      for (i64 i = 0; i < columns; i++) to[i] = finish(s[i]);
    }
  }
}

// Rows that lie dense (inner = 1): eight sums side by side, in a fixed order.
void sum_rows(float* y, const float* x, i64 rows, i64 n, f64 scale) {
#pragma omp parallel for schedule(static) if (rows * n >= kParallelFrom)
  for (i64 r = 0; r < rows; r++) {
    const float* p = x + r * n;
    f64 s[8] = {};
    i64 k = 0;
    for (; k + 8 <= n; k += 8)
      for (int j = 0; j < 8; j++) s[j] += p[k + j];
    for (; k < n; k++) s[0] += p[k];
    y[r] = float((((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))) * scale);
  }
}

}  // namespace

void reduce_axis(const Context&, Out y, In x, Reduction op, i64 outer, i64 n, i64 inner) {
  if (x.dtype == DType::i32) {
    using T = std::int32_t;
    auto run = [&](T first, auto step) {
      reduce(y.as<T>(), x.as<T>(), outer, n, inner, first, step, [](T s) { return s; });
    };
    if (op == Reduction::sum) run(0, [](T s, T v) { return T(std::uint32_t(s) + std::uint32_t(v)); });
    else if (op == Reduction::max) run(std::numeric_limits<T>::min(), [](T s, T v) { return v > s ? v : s; });
    else run(std::numeric_limits<T>::max(), [](T s, T v) { return v < s ? v : s; });
    return;
  }
  float* to = y.as<float>();
  const float* from = x.as<float>();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (op == Reduction::sum || op == Reduction::mean) {
    f64 scale = op == Reduction::mean ? 1 / f64(n) : 1;
    if (inner == 1) sum_rows(to, from, outer, n, scale);
    else
      reduce(
          to, from, outer, n, inner, 0.0, [](f64 s, float v) { return s + v; },
          [=](f64 s) { return float(s * scale); });
  } else {
    // A NaN stays: no comparison with it is true but v != v.
    auto same = [](float s) { return s; };
    if (op == Reduction::max)
      reduce(to, from, outer, n, inner, -kInfinity, [](float s, float v) { return v > s || v != v ? v : s; }, same);
    else reduce(to, from, outer, n, inner, kInfinity, [](float s, float v) { return v < s || v != v ? v : s; }, same);
  }
}

}  // namespace tstrain::TSTRAIN_ISA
