#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

void swiglu_forward(const Context&, Out y, In gate_up, i64 rows, i64 dim) {
  with_float_type(y.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
#pragma omp parallel for schedule(static) if (rows * dim >= kParallelFrom)
    for (i64 r = 0; r < rows; r++) {
      const T *gate = gate_up.as<T>() + 2 * r * dim, *up = gate + dim;
      T* out = y.as<T>() + r * dim;
#pragma omp simd
      for (i64 i = 0; i < dim; i++) {
        float g = load(gate + i);
        store(out + i, g / (1.f + exp_float(-g)) * load(up + i));
      }
    }
  });
}

void swiglu_backward(const Context&, Out dgate_up, Out y, In dy, In gate_up, i64 rows, i64 dim) {
  with_float_type(dy.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
#pragma omp parallel for schedule(static) if (rows * dim >= kParallelFrom)
    for (i64 r = 0; r < rows; r++) {
      const T *gate = gate_up.as<T>() + 2 * r * dim, *up = gate + dim, *d = dy.as<T>() + r * dim;
      T *dgate = dgate_up.as<T>() + 2 * r * dim, *dup = dgate + dim;
      T* out = y ? y.as<T>() + r * dim : nullptr;
      if (out) {
#pragma omp simd
        for (i64 i = 0; i < dim; i++) {
          float g = load(gate + i), u = load(up + i), e = load(d + i);
          float s = 1.f / (1.f + exp_float(-g));
          store(out + i, g * s * u);
          store(dgate + i, e * u * s * (1.f + g * (1.f - s)));
          store(dup + i, e * g * s);
        }
      } else {
#pragma omp simd
        for (i64 i = 0; i < dim; i++) {
          float g = load(gate + i), u = load(up + i), e = load(d + i);
          float s = 1.f / (1.f + exp_float(-g));
          store(dgate + i, e * u * s * (1.f + g * (1.f - s)));
          store(dup + i, e * g * s);
        }
      }
    }
  });
}

}  // namespace tstrain::TSTRAIN_ISA
