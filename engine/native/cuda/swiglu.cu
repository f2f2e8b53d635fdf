// SwiGLU, one thread a vector: bound by memory, so each value is read once and written once.
#ifdef __CUDACC_RTC__
#include "on_card.h"

__device__ inline float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

template <class T>
__global__ void __launch_bounds__(256) swiglu_forward(T* y, const T* gate_up, i64 rows, i64 dim) {
  constexpr int N = lanes_of<T>();
  each<N>(rows * dim, dim % N == 0 && aligned<N>(y, gate_up), [&](i64 i, auto lanes) {
    auto [row, column] = divided(i, dim);
    const T* from = gate_up + row * 2 * dim + column;
    float g[lanes.count], u[lanes.count];
    load(g, from);
    load(u, from + dim);
    for (int j = 0; j < lanes.count; j++) g[j] = g[j] * sigmoid(g[j]) * u[j];
    store(y + i, g);
  });
}

// dgate_up may be gate_up: each thread has read its values when it writes them.
template <class T>
__global__ void __launch_bounds__(256, 4)
    swiglu_backward(T* dgate_up, T* y, const T* dy, const T* gate_up, i64 rows, i64 dim) {
  constexpr int N = lanes_of<T>();
  each<N>(rows * dim, dim % N == 0 && aligned<N>(dgate_up, y, dy, gate_up), [&](i64 i, auto lanes) {
    auto [row, column] = divided(i, dim);
    i64 at = row * 2 * dim + column;
    float g[lanes.count], u[lanes.count], d[lanes.count];
    load(g, gate_up + at);
    load(u, gate_up + at + dim);
    load(d, dy + i);
    float value[lanes.count];
    for (int j = 0; j < lanes.count; j++) {
      float s = sigmoid(g[j]), silu = g[j] * s;
      value[j] = silu * u[j];
      g[j] = d[j] * u[j] * s * fmaf(g[j], 1.f - s, 1.f);
      u[j] = d[j] * silu;
    }
    store(dgate_up + at, g);
    store(dgate_up + at + dim, u);
    if (y) store(y + i, value);
  });
}

KERNELS(swiglu_forward<float>, swiglu_forward<bf16>, swiglu_backward<float>, swiglu_backward<bf16>)

#else
#include "launch.h"
#include "parts.h"

namespace tstrain::cuda {

void swiglu_forward(const Context& context, Out y, In gate_up, i64 rows, i64 dim) {
  launch(context, kernel("swiglu_forward", {y.dtype}), vectors(rows * dim, y.dtype), y.data, gate_up.data, rows, dim);
}

void swiglu_backward(const Context& context, Out dgate_up, Out y, In dy, In gate_up, i64 rows, i64 dim) {
  launch(context, kernel("swiglu_backward", {dy.dtype}), vectors(rows * dim, dy.dtype), dgate_up.data, y.data, dy.data,
         gate_up.data, rows, dim);
}

}  // namespace tstrain::cuda

#endif
