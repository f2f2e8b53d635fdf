// SwiGLU, one thread an element: bound by memory, so each value is read once and written once.
#ifdef __CUDACC_RTC__
#include "on_card.h"

__device__ inline float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

template <class T>
__global__ void swiglu_forward(T* y, const T* gate_up, i64 rows, i64 dim) {
  for (i64 i = first(); i < rows * dim; i += all()) {
    i64 row = i / dim, column = i % dim;
    const T* gate = gate_up + row * 2 * dim + column;
    float g = load(gate);
    store(y + i, g * sigmoid(g) * load(gate + dim));
  }
}

// dgate_up may be gate_up: each thread has read its two values when it writes them.
template <class T>
__global__ void swiglu_backward(T* dgate_up, T* y, const T* dy, const T* gate_up, i64 rows, i64 dim) {
  for (i64 i = first(); i < rows * dim; i += all()) {
    i64 row = i / dim, column = i % dim;
    i64 at = row * 2 * dim + column;
    float g = load(gate_up + at), u = load(gate_up + at + dim), d = load(dy + i);
    float s = sigmoid(g), silu = g * s;
    store(dgate_up + at, d * u * s * (1.f + g * (1.f - s)));
    store(dgate_up + at + dim, d * silu);
    if (y) store(y + i, silu * u);
  }
}

KERNELS(swiglu_forward<float>, swiglu_forward<bf16>, swiglu_backward<float>, swiglu_backward<bf16>)

#else
#include "launch.h"

namespace tstrain::cuda {

void swiglu_forward(const Context& context, Out y, In gate_up, i64 rows, i64 dim) {
  launch(context, kernel("swiglu_forward", {y.dtype}), blocks_for(rows * dim), y.data, gate_up.data, rows, dim);
}

void swiglu_backward(const Context& context, Out dgate_up, Out y, In dy, In gate_up, i64 rows, i64 dim) {
  launch(context, kernel("swiglu_backward", {dy.dtype}), blocks_for(rows * dim), dgate_up.data, y.data, dy.data,
         gate_up.data, rows, dim);
}

}  // namespace tstrain::cuda

#endif
