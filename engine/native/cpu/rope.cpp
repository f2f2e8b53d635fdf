#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

void rope(const Context&, Out x, In cos, In sin, In index, i64 tokens, i64 heads, i64 head_dim, i64 stride,
          bool inverse) {
  i64 half = head_dim / 2;
  const auto* at = index.as<std::int32_t>();
  float sign = inverse ? -1.f : 1.f;
  with_float_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    T* base = x.as<T>();
#pragma omp parallel for schedule(static) if (tokens * heads * head_dim >= kParallelFrom)
    for (i64 t = 0; t < tokens; t++) {
      const float *c = cos.as<float>() + at[t] * half, *s = sin.as<float>() + at[t] * half;
      for (i64 h = 0; h < heads; h++) {
        T *first = base + t * stride + h * head_dim, *second = first + half;
#pragma omp simd
        for (i64 i = 0; i < half; i++) {
          float a = load(first + i), b = load(second + i), si = sign * s[i];
          store(first + i, a * c[i] - b * si);
          store(second + i, b * c[i] + a * si);
        }
      }
    }
  });
}

}  // namespace tstrain::TSTRAIN_ISA
