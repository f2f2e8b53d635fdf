#include <algorithm>

#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

void add_columns(const Context&, Out y, In x, i64 rows, i64 columns, i64 y_stride, i64 y_offset, i64 x_stride) {
  with_float_type(y.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
#pragma omp parallel for schedule(static) if (rows * columns >= kParallelFrom)
    for (i64 r = 0; r < rows; r++) {
      T* to = y.as<T>() + r * y_stride + y_offset;
      const T* from = x.as<T>() + r * x_stride;
#pragma omp simd
      for (i64 c = 0; c < columns; c++) store(to + c, load(to + c) + load(from + c));
    }
  });
}

void sum_columns(const Context&, Out y, In x, i64 rows, i64 columns) {
  // Columns that one task carries along, so that x is read row by row.
  constexpr i64 kColumns = 128;
  with_float_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_float_type(y.dtype, [&](auto* result) {
      auto* to = y.as<std::remove_pointer_t<decltype(result)>>();
      i64 tasks = (columns + kColumns - 1) / kColumns;
#pragma omp parallel for schedule(static) if (rows * columns >= kParallelFrom)
      for (i64 task = 0; task < tasks; task++) {
        i64 from = task * kColumns, count = std::min(columns - from, kColumns);
        f64 sums[kColumns] = {};
        for (i64 r = 0; r < rows; r++) {
          const T* row = x.as<T>() + r * columns + from;
#pragma omp simd
          for (i64 c = 0; c < count; c++) sums[c] += f64(load(row + c));
        }
        for (i64 c = 0; c < count; c++) store(to + from + c, load(to + from + c) + float(sums[c]));
      }
    });
  });
}

}  // namespace tstrain::TSTRAIN_ISA
