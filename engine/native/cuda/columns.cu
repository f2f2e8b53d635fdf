// Columns of matrices, bound by memory: x is read once, y read and written once.
#ifdef __CUDACC_RTC__
#include "on_card.h"

template <class T>
__global__ void __launch_bounds__(256)
    add_columns(T* y, const T* x, i64 rows, i64 columns, i64 y_stride, i64 y_offset, i64 x_stride) {
  constexpr int N = lanes_of<T>();
  y += y_offset;
  bool wide = aligned<N>(y, x) && columns % N == 0 && y_stride % N == 0 && x_stride % N == 0;
  each<N>(rows * columns, wide, [&](i64 i, auto lanes) {
    auto [row, column] = divided(i, columns);
    float sum[lanes.count], add[lanes.count];
    T* to = y + row * y_stride + column;
    load(sum, to);
    load(add, x + row * x_stride + column);
    for (int j = 0; j < lanes.count; j++) sum[j] += add[j];
    store(to, sum);
  });
}

template <bool kWide, class T>
__device__ inline void sum_rows(double* part, const T* x, i64 rows, i64 columns, i64 column) {
  constexpr int N = lanes_of<T>();
  double sum[N] = {};
#pragma unroll 8
  for (i64 row = 0; row < rows; row++) {
    float v[N];
    load<kWide>(v, x + row * columns + column, columns - column);
    for (int j = 0; j < N; j++) sum[j] += v[j];
  }
  for (int j = 0; j < N; j++)
    if (column + j < columns) part[column + j] = sum[j];
}

// parts [parts, columns]: part blockIdx.y of the rows. A thread walks down its vector of columns, eight loads on their way.
template <class T>
__global__ void __launch_bounds__(128) sum_columns(double* parts, const T* x, i64 rows, i64 columns, i64 part_rows) {
  i64 column = first() * lanes_of<T>(), from = blockIdx.y * part_rows;
  if (column >= columns) return;
  x += from * columns;
  rows = min(part_rows, rows - from);
  parts += blockIdx.y * columns;
  if (columns % lanes_of<T>() == 0 && aligned<lanes_of<T>()>(x)) sum_rows<true>(parts, x, rows, columns, column);
  else sum_rows<false>(parts, x, rows, columns, column);
}

// y[c] += Σ_k parts[k, c]. A warp takes 32 columns, the eight of a block every eighth part; they are put together in order.
template <class Y, class S>
__global__ void __launch_bounds__(256) add_parts(Y* y, const S* parts, i64 count, i64 columns) {
  __shared__ S sums[8][32];
  int lane = threadIdx.x % 32, group = threadIdx.x / 32;
  i64 column = blockIdx.x * 32ll + lane;
  S sum = 0;
  if (column < columns) {
#pragma unroll 4
    for (i64 k = group; k < count; k += 8) sum += parts[k * columns + column];
  }
  sums[group][lane] = sum;
  __syncthreads();
  if (group > 0 || column >= columns) return;
  for (int g = 1; g < 8; g++) sum += sums[g][lane];
  store(y + column, load(y + column) + float(sum));
}

KERNELS(add_columns<float>, add_columns<bf16>, sum_columns<float>, sum_columns<bf16>)
KERNELS(add_parts<float, float>, add_parts<float, double>, add_parts<bf16, float>, add_parts<bf16, double>)

#else
#include "launch.h"
#include "parts.h"

namespace tstrain::cuda {

void add_columns(const Context& context, Out y, In x, i64 rows, i64 columns, i64 y_stride, i64 y_offset, i64 x_stride) {
  launch(context, kernel("add_columns", {y.dtype}), vectors(rows * columns, y.dtype), y.data, x.data, rows, columns,
         y_stride, y_offset, x_stride);
}

void sum_columns(const Context& context, Out y, In x, i64 rows, i64 columns) {
  Parts parts = column_parts(rows);
  int threads = row_threads(columns, x.dtype, 128);
  i64 across = 16 / size_of(x.dtype) * threads;
  launch(context, kernel("sum_columns", {x.dtype}),
         Grid((columns + across - 1) / across, parts.count).with_threads(threads), context.workspace, x.data, rows,
         columns, parts.size);
  add_parts(context, y, context.workspace, DType::f64, parts.count, columns);
}

void add_parts(const Context& context, Out y, const void* parts, DType type, i64 count, i64 columns) {
  if (count > 0)
    launch(context, kernel("add_parts", {y.dtype, type}), Grid((columns + 31) / 32), y.data, parts, count, columns);
}

}  // namespace tstrain::cuda

#endif
