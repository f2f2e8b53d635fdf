// RMSNorm, bound by memory: forward reads x and writes y; backward reads dy, x and
// dresidual and writes dx. A block takes a row, a thread a vector of it, which stays in registers from the reading to the
// writing. Of longer rows than a block has threads for (8,192 elements of bfloat16) the rest comes from the cache, and so do
// rows that do not lie as vectors.
#ifdef __CUDACC_RTC__
#include "on_card.h"

// Calls f(i, slot, kept) for the thread's vectors of a row. The first one keeps its slot where it comes in one piece; its
// single elements would take more registers than there are.
template <bool kWide, int N, class Slot, class F>
__device__ inline void over_row(Slot& slot, i64 dim, F f) {
  i64 i = i64(threadIdx.x) * N, step = i64(blockDim.x) * N;
  if (kWide && i < dim) f(i, slot, true);
  for (i += kWide ? step : 0; i < dim; i += step) {
    Slot spare;
    f(i, spare, false);
  }
}

template <bool kWide, class T>
__device__ inline void norm_row(T* y, float* rstd, const T* x, const T* w, i64 dim, float eps) {
  constexpr int N = lanes_of<T>();
  Vector<T, N> own;
  float squares = 0;
  over_row<kWide, N>(own, dim, [&](i64 i, Vector<T, N>& slot, bool) {
    float v[N];
    slot = take<N, kWide>(x + i, dim - i);
    unpack(v, slot);
    for (int j = 0; j < N; j++) squares = fmaf(v[j], v[j], squares);
  });
  float scale = 1.f / sqrtf(block_sum(squares) / float(dim) + eps);
  if (threadIdx.x == 0) *rstd = scale;
  over_row<kWide, N>(own, dim, [&](i64 i, Vector<T, N>& slot, bool kept) {
    if (!kept) slot = take<N, kWide>(x + i, dim - i);
    float v[N], by[N];
    unpack(v, slot);
    load<kWide>(by, w + i, dim - i);
    for (int j = 0; j < N; j++) v[j] = v[j] * scale * by[j];
    store<kWide>(y + i, v, dim - i);
  });
}

template <class T>
__global__ void __launch_bounds__(1024, 1)
    rmsnorm_forward(T* y, float* rstd, const T* x, const T* w, i64 dim, float eps) {
  i64 row = blockIdx.x, at = row * dim;
  if (dim % lanes_of<T>() == 0 && aligned<lanes_of<T>()>(y, x, w))
    norm_row<true>(y + at, rstd + row, x + at, w, dim, eps);
  else norm_row<false>(y + at, rstd + row, x + at, w, dim, eps);
}

template <class T, int N>
struct Gradients {
  Vector<T, N> x, dy, around;
  float dw[N];
};

// Rows from … to. Their part of dw is summed in the thread's registers, row after row; only what has no slot is summed in
// `part`.
template <bool kWide, class T>
__device__ inline void norm_gradients(T* dx, float* part, const T* dy, const T* x, const T* w, const float* rstd,
                                      const T* dresidual, i64 from, i64 to, i64 dim) {
  constexpr int N = lanes_of<T>();
  Gradients<T, N> own = {};
  auto write_part = [&](i64 i, const Gradients<T, N>& slot) {
    for (int j = 0; j < N; j++)
      if (i + j < dim) part[i + j] = slot.dw[j];
  };
  for (i64 row = from; row < to; row++) {
    i64 at = row * dim;
    auto read = [&](i64 i, Gradients<T, N>& slot) {
      slot.x = take<N, kWide>(x + at + i, dim - i);
      slot.dy = take<N, kWide>(dy + at + i, dim - i);
      if (dresidual) slot.around = take<N, kWide>(dresidual + at + i, dim - i);
    };
    float scale = rstd[row], dot = 0;
    over_row<kWide, N>(own, dim, [&](i64 i, Gradients<T, N>& slot, bool kept) {
      read(i, slot);
      float v[N], d[N], by[N];
      unpack(v, slot.x);
      unpack(d, slot.dy);
      load<kWide>(by, w + i, dim - i);
      for (int j = 0; j < N; j++) dot = fmaf(d[j] * by[j], v[j], dot);
      if (!part) return;
      if (!kept)
        for (int j = 0; j < N; j++) slot.dw[j] = row > from && i + j < dim ? part[i + j] : 0;
      for (int j = 0; j < N; j++) slot.dw[j] = fmaf(d[j] * v[j], scale, slot.dw[j]);
      if (!kept) write_part(i, slot);
    });
    float c = block_sum(dot) * scale * scale / float(dim);
    over_row<kWide, N>(own, dim, [&](i64 i, Gradients<T, N>& slot, bool kept) {
      if (!kept) read(i, slot);
      float v[N], d[N], by[N], around[N] = {};
      unpack(v, slot.x);
      unpack(d, slot.dy);
      load<kWide>(by, w + i, dim - i);
      if (dresidual) unpack(around, slot.around);
      for (int j = 0; j < N; j++) v[j] = fmaf(scale, fmaf(by[j], d[j], -(v[j] * c)), around[j]);
      store<kWide>(dx + at + i, v, dim - i);
    });
  }
  if (!part) return;
  over_row<kWide, N>(own, dim, [&](i64 i, Gradients<T, N>& slot, bool kept) {
    if (kept) write_part(i, slot);
  });
}

// parts [blocks, dim] or null. dx may be dy, x or dresidual: a thread has read its elements when it writes them.
template <class T>
__global__ void __launch_bounds__(1024, 1)
    rmsnorm_backward(T* dx, float* parts, const T* dy, const T* x, const T* w, const float* rstd, const T* dresidual,
                     i64 rows, i64 dim, i64 rows_a_block) {
  i64 from = blockIdx.x * rows_a_block, to = min(from + rows_a_block, rows);
  float* part = parts ? parts + blockIdx.x * dim : nullptr;
  if (dim % lanes_of<T>() == 0 && aligned<lanes_of<T>()>(dx, dy, x, w, dresidual))
    norm_gradients<true>(dx, part, dy, x, w, rstd, dresidual, from, to, dim);
  else norm_gradients<false>(dx, part, dy, x, w, rstd, dresidual, from, to, dim);
}

KERNELS(rmsnorm_forward<float>, rmsnorm_forward<bf16>, rmsnorm_backward<float>, rmsnorm_backward<bf16>)

#else
#include "launch.h"
#include "parts.h"

namespace tstrain::cuda {

void rmsnorm_forward(const Context& context, Out y, Out rstd, In x, In w, i64 rows, i64 dim, f64 eps) {
  launch(context, kernel("rmsnorm_forward", {x.dtype}), Grid(rows).with_threads(row_threads(dim, x.dtype, 1024)),
         y.data, rstd.data, x.data, w.data, dim, float(eps));
}

void rmsnorm_backward(const Context& context, Out dx, Out dw, In dy, In x, In w, In rstd, In dresidual, i64 rows,
                      i64 dim) {
  Parts parts = norm_parts(rows);
  void* sums = dw ? context.workspace : nullptr;
  launch(context, kernel("rmsnorm_backward", {x.dtype}),
         Grid(parts.count).with_threads(row_threads(dim, x.dtype, 1024)), dx.data, sums, dy.data, x.data, w.data,
         rstd.data, dresidual.data, rows, dim, parts.size);
  if (dw) add_parts(context, dw, sums, DType::f32, parts.count, dim);
}

}  // namespace tstrain::cuda

#endif
