// Rows of tables by their ids, bound by memory: one thread a vector of a row.
//
// scatter_add_rows adds equal ids in the order of i, without atomics and without looking at all pairs: (id, i) is sorted
// as one number, which no two rows share, so there is one result. Then all that goes to one row of the table stands
// together, and is added up in registers: the table's row is read and written once. Sorting 8,192 rows takes four small
// kernels; adding them, 4096 wide, moves hundreds of megabytes.

// Keys that one block sorts.
constexpr int kRun = 2048;

#ifdef __CUDACC_RTC__
#include "on_card.h"

template <class T>
__global__ void __launch_bounds__(256, 4) gather_rows(T* y, const T* table, const i32* ids, i64 rows, i64 dim) {
  constexpr int N = lanes_of<T>();
  each<N>(rows * dim, dim % N == 0 && aligned<N>(y, table), [&](i64 i, auto lanes) {
    auto [row, column] = divided(i, dim);
    put(y + i, take<lanes.count>(table + ids[row] * dim + column));
  });
}

template <class T>
__global__ void __launch_bounds__(256)
    scatter_rows(T* table, const T* x, const i32* ids, i64 rows, i64 dim, i64 x_stride) {
  constexpr int N = lanes_of<T>();
  bool wide = dim % N == 0 && x_stride % N == 0 && aligned<N>(table, x);
  each<N>(rows * dim, wide, [&](i64 i, auto lanes) {
    auto [row, column] = divided(i, dim);
    put(table + ids[row] * dim + column, take<lanes.count>(x + row * x_stride + column));
  });
}

// Sorts runs of kRun keys, id · 2³² + i, each in one block (bitonic).
__global__ void __launch_bounds__(1024) sort_runs(u64* keys, const i32* ids, i64 rows) {
  __shared__ u64 run[kRun];
  for (int at = threadIdx.x; at < kRun; at += 1024) {
    i64 i = i64(blockIdx.x) * kRun + at;
    run[at] = i < rows ? u64(ids[i]) << 32 | u64(i) : ~0ull;
  }
  for (int size = 2; size <= kRun; size *= 2)
    for (int distance = size / 2; distance > 0; distance /= 2) {
      __syncthreads();
      int low = threadIdx.x / distance * 2 * distance + threadIdx.x % distance, high = low + distance;
      u64 a = run[low], b = run[high];
      if ((a > b) == ((low & size) == 0)) {
        run[low] = b;
        run[high] = a;
      }
    }
  __syncthreads();
  for (int at = threadIdx.x; at < kRun; at += 1024) {
    i64 i = i64(blockIdx.x) * kRun + at;
    if (i < rows) keys[i] = run[at];
  }
}

// Merges pairs of sorted runs of `run` keys, a power of two: a key's place is its own in its run, and as many further as the other run has
// smaller ones.
__global__ void __launch_bounds__(256) merge_runs(u64* merged, const u64* keys, i64 rows, i64 run) {
  for (i64 i = first(); i < rows; i += all()) {
    i64 mine = i & -run, other = mine ^ run, pair = min(mine, other);
    u64 key = keys[i];
    i64 from = min(other, rows), to = min(other + run, rows);
    while (from < to) {
      i64 middle = (from + to) / 2;
      if (keys[middle] < key) from = middle + 1;
      else to = middle;
    }
    merged[pair + (i - mine) + (from - min(other, rows))] = key;
  }
}

__device__ inline u32 id_of(u64 key) { return u32(key >> 32); }

// The thread of the first of equal ids adds all their rows up.
template <class T, class D>
__global__ void __launch_bounds__(256) scatter_add_rows(T* table, const D* dy, const u64* keys, i64 rows, i64 dim) {
  constexpr int N = lanes_of<T, D>();
  each<N>(rows * dim, dim % N == 0 && aligned<N>(table) && aligned<N>(dy), [&](i64 i, auto lanes) {
    auto [at, column] = divided(i, dim);
    u32 id = id_of(keys[at]);
    if (at > 0 && id_of(keys[at - 1]) == id) return;
    T* to = table + id * dim + column;
    float sum[lanes.count];
    load(sum, to);
#pragma unroll 4
    for (i64 k = at; k < rows; k++) {
      u64 key = keys[k];
      if (id_of(key) != id) break;
      float add[lanes.count];
      load(add, dy + u32(key) * dim + column);
      for (int j = 0; j < lanes.count; j++) sum[j] += add[j];
    }
    store(to, sum);
  });
}

KERNELS(gather_rows<float>, gather_rows<bf16>, gather_rows<i32>, gather_rows<double>, gather_rows<u8>)
KERNELS(scatter_rows<float>, scatter_rows<bf16>, scatter_rows<i32>, scatter_rows<double>, scatter_rows<u8>)
KERNELS(sort_runs, merge_runs, scatter_add_rows<float, float>, scatter_add_rows<float, bf16>,
        scatter_add_rows<bf16, float>, scatter_add_rows<bf16, bf16>)

#else
#include <utility>

#include "launch.h"
#include "parts.h"

namespace tstrain::cuda {

void gather_rows(const Context& context, Out y, In table, In ids, i64 rows, i64 dim, i64) {
  launch(context, kernel("gather_rows", {y.dtype}), vectors(rows * dim, y.dtype), y.data, table.data, ids.data, rows,
         dim);
}

void scatter_rows(const Context& context, Out table, In x, In ids, i64 rows, i64 dim, i64 x_stride, i64) {
  launch(context, kernel("scatter_rows", {x.dtype}), vectors(rows * dim, x.dtype), table.data, x.data, ids.data, rows,
         dim, x_stride);
}

void scatter_add_rows(const Context& context, Out table, In dy, In ids, i64 rows, i64 dim, i64) {
  auto* keys = static_cast<std::uint64_t*>(context.workspace);
  auto* merged = keys + rows;
  launch(context, kernel("sort_runs"), Grid((rows + kRun - 1) / kRun).with_threads(1024), keys, ids.data, rows);
  for (i64 run = kRun; run < rows; run *= 2, std::swap(keys, merged))
    launch(context, kernel("merge_runs"), blocks_for(rows), merged, keys, rows, run);
  launch(context, kernel("scatter_add_rows", {table.dtype, dy.dtype}),
         vectors(rows * dim, larger(table.dtype, dy.dtype)), table.data, dy.data, keys, rows, dim);
}

}  // namespace tstrain::cuda

#endif
