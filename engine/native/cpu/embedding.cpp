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

namespace {

constexpr i64 kColumns = 32;

// Threads share out columns, not rows: an id that occurs twice is then added up by one thread, in the order of i,
// whatever the thread count. Calls f(from, to) for the columns of each.
template <class F>
void share_columns(i64 rows, i64 dim, F f) {
  i64 parts = (dim + kColumns - 1) / kColumns;
#pragma omp parallel if (rows * dim >= kParallelFrom)
  {
    i64 threads = omp_get_num_threads(), me = omp_get_thread_num();
    f(parts * me / threads * kColumns, std::min(dim, parts * (me + 1) / threads * kColumns));
  }
}

template <class D>
void add_rows(float* table, const D* dy, const std::int32_t* id, i64 rows, i64 dim) {
  share_columns(rows, dim, [&](i64 from, i64 to) {
    for (i64 i = 0; i < rows; i++) {
      float* row = table + i64(id[i]) * dim;
      const D* add = dy + i * dim;
#pragma omp simd
      for (i64 j = from; j < to; j++) row[j] += load(add + j);
    }
  });
}

// Equal ids one after the other, so that what they add to a row is summed up before it is rounded. sorted: room for an id
// with its place, as one number, for each row.
template <class D>
void add_rows(bf16* table, const D* dy, const std::int32_t* id, i64 rows, i64 dim, std::uint64_t* sorted) {
  for (i64 i = 0; i < rows; i++) sorted[i] = std::uint64_t(id[i]) << 32 | std::uint64_t(i);
  std::sort(sorted, sorted + rows);
  share_columns(rows, dim, [&](i64 from, i64 to) {
    for (i64 first = 0, next; first < rows; first = next) {
      bf16* row = table + i64(sorted[first] >> 32) * dim;
      for (next = first; next < rows && sorted[next] >> 32 == sorted[first] >> 32;) next++;
      for (i64 start = from; start < to; start += kColumns) {
        i64 count = std::min(to - start, kColumns);
        float sums[kColumns];
#pragma omp simd
        for (i64 j = 0; j < count; j++) sums[j] = load(row + start + j);
        for (i64 k = first; k < next; k++) {
          const D* add = dy + i64(std::uint32_t(sorted[k])) * dim + start;
#pragma omp simd
          for (i64 j = 0; j < count; j++) sums[j] += load(add + j);
        }
#pragma omp simd
        for (i64 j = 0; j < count; j++) store(row + start + j, sums[j]);
      }
    }
  });
}

}  // namespace

void scatter_add_rows(const Context& context, Out table, In dy, In ids, i64 rows, i64 dim, i64) {
  const auto* id = ids.as<std::int32_t>();
  with_float_type(dy.dtype, [&](auto* d) {
    const auto* add = dy.as<std::remove_pointer_t<decltype(d)>>();
    if (table.dtype == DType::bf16)
      add_rows(table.as<bf16>(), add, id, rows, dim, static_cast<std::uint64_t*>(context.workspace));
    else add_rows(table.as<float>(), add, id, rows, dim);
  });
}

}  // namespace tstrain::TSTRAIN_ISA
