#include <algorithm>

#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

void gather_rows(const Context&, Out y, In table, In ids, i64 rows, i64 dim, i64) {
  const auto* id = ids.as<std::int32_t>();
  i64 bytes = dim * size_of(y.dtype);
#pragma omp parallel for schedule(static) if (rows * dim >= kParallelFrom)
  for (i64 i = 0; i < rows; i++) std::memcpy(y.as<char>() + i * bytes, table.as<char>() + id[i] * bytes, size_t(bytes));
}

void scatter_rows(const Context&, Out table, In x, In ids, i64 rows, i64 dim, i64 x_stride, i64) {
  const auto* id = ids.as<std::int32_t>();
  i64 bytes = dim * size_of(x.dtype), stride = x_stride * size_of(x.dtype);
#pragma omp parallel for schedule(static) if (rows * dim >= kParallelFrom)
  for (i64 i = 0; i < rows; i++)
    std::memcpy(table.as<char>() + id[i] * bytes, x.as<char>() + i * stride, size_t(bytes));
}

// Threads share out columns, not rows: an id that occurs twice is then added up by one thread, in the order of i,
// whatever the thread count.
void scatter_add_rows(const Context&, Out table, In dy, In ids, i64 rows, i64 dim, i64) {
  const auto* id = ids.as<std::int32_t>();
  with_float_type(table.dtype, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    with_float_type(dy.dtype, [&](auto* d) {
      using D = std::remove_pointer_t<decltype(d)>;
      constexpr i64 kColumns = 32;
      i64 parts = (dim + kColumns - 1) / kColumns;
#pragma omp parallel if (rows * dim >= kParallelFrom)
      {
        i64 threads = omp_get_num_threads(), me = omp_get_thread_num();
        i64 from = parts * me / threads * kColumns, to = std::min(dim, parts * (me + 1) / threads * kColumns);
        for (i64 i = 0; i < rows; i++) {
          T* row = table.as<T>() + i64(id[i]) * dim;
          const D* add = dy.as<D>() + i * dim;
#pragma omp simd
          for (i64 j = from; j < to; j++) store(row + j, load(row + j) + load(add + j));
        }
      }
    });
  });
}

}  // namespace tstrain::TSTRAIN_ISA
