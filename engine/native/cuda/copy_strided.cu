// Copies between tensors that lie differently, bound by memory: in vectors where the last axis is dense in both; through
// tiles in shared memory where it is dense in y and another is in x, so that both sides are read and written in runs.
#ifdef __CUDACC_RTC__
#include "on_card.h"

template <class T>
__global__ void __launch_bounds__(256) copy_strided(T* y, const T* x, Four shape, Four y_strides, Four x_strides) {
  constexpr int N = lanes_of<T>();
  bool wide = aligned<N>(y, x) && shape.at[3] % N == 0 && y_strides.at[3] == 1 && x_strides.at[3] == 1;
  for (int axis = 0; axis < 3; axis++) wide = wide && y_strides.at[axis] % N == 0 && x_strides.at[axis] % N == 0;
  each<N>(shape.at[0] * shape.at[1] * shape.at[2] * shape.at[3], wide, [&](i64 i, auto lanes) {
    Four index = index_in(shape, i);
    put(y + offset(index, y_strides), take<lanes.count>(x + offset(index, x_strides)));
  });
}

// The last axis is dense in y, the one before it in x. A block takes a tile of 32 × 32 of these two.
template <class T>
__global__ void __launch_bounds__(256) copy_transposed(T* y, const T* x, Four shape, Four y_strides, Four x_strides) {
  __shared__ T tile[32][33];  // a column more, so that reading across meets all banks
  i64 columns = (shape.at[3] + 31) / 32, rows = (shape.at[2] + 31) / 32;
  Four index = index_in({shape.at[0], shape.at[1], rows, columns}, blockIdx.x);
  i64 row = index.at[2] * 32, column = index.at[3] * 32;
  y += index.at[0] * y_strides.at[0] + index.at[1] * y_strides.at[1];
  x += index.at[0] * x_strides.at[0] + index.at[1] * x_strides.at[1];
  int lane = threadIdx.x % 32;
  for (int k = threadIdx.x / 32; k < 32; k += 8)
    if (row + lane < shape.at[2] && column + k < shape.at[3])
      tile[k][lane] = x[row + lane + (column + k) * x_strides.at[3]];
  __syncthreads();
  for (int k = threadIdx.x / 32; k < 32; k += 8)
    if (row + k < shape.at[2] && column + lane < shape.at[3])
      y[(row + k) * y_strides.at[2] + column + lane] = tile[lane][k];
}

KERNELS(copy_strided<float>, copy_strided<bf16>, copy_strided<i32>, copy_strided<double>, copy_strided<u8>)
KERNELS(copy_transposed<float>, copy_transposed<bf16>, copy_transposed<i32>, copy_transposed<double>)
KERNELS(copy_transposed<u8>)

#else
#include <utility>

#include "launch.h"
#include "parts.h"

namespace tstrain::cuda {

namespace {
// An axis of several elements that lie dense, or the last one.
int dense_axis(const Four& shape, const Four& strides) {
  for (int axis = 3; axis > 0; axis--)
    if (strides[axis] == 1 && shape[axis] > 1) return axis;
  return strides[0] == 1 && shape[0] > 1 ? 0 : 3;
}
}  // namespace

void copy_strided(const Context& context, Out y, In x, i64 y_offset, i64 x_offset, Four shape, Four y_strides,
                  Four x_strides) {
  auto* to = y.as<char>() + y_offset * size_of(y.dtype);
  auto* from = x.as<char>() + x_offset * size_of(x.dtype);
  // In which order the axes are gone through does not matter: y's dense one becomes the last.
  auto exchange = [&](int a, int b) {
    std::swap(shape[a], shape[b]);
    std::swap(y_strides[a], y_strides[b]);
    std::swap(x_strides[a], x_strides[b]);
  };
  exchange(dense_axis(shape, y_strides), 3);
  int other = dense_axis(shape, x_strides);
  if (other == 3) {
    launch(context, kernel("copy_strided", {y.dtype}), vectors(shape[0] * shape[1] * shape[2] * shape[3], y.dtype), to,
           from, shape, y_strides, x_strides);
  } else {
    exchange(other, 2);
    i64 tiles = shape[0] * shape[1] * ((shape[2] + 31) / 32) * ((shape[3] + 31) / 32);
    launch(context, kernel("copy_transposed", {y.dtype}), Grid(tiles), to, from, shape, y_strides, x_strides);
  }
}

}  // namespace tstrain::cuda

#endif
