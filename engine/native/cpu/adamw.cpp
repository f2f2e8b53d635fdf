#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

void adamw(const Context&, Out p, Out m, Out v, Out p16, In g, i64 n, i64 step, f64 lr, f64 beta1, f64 beta2, f64 eps,
           f64 weight_decay, f64 grad_scale) {
  float b1 = float(beta1), b2 = float(beta2), c1 = float(1 - beta1), c2 = float(1 - beta2);
  float keep = float(1 - lr * weight_decay), scale = float(grad_scale);
  float rate = float(lr / (1 - std::pow(beta1, f64(step))));
  float root = float(1 / std::sqrt(1 - std::pow(beta2, f64(step)))), epsilon = float(eps);
  float *pp = p.as<float>(), *mm = m.as<float>(), *vv = v.as<float>();
  const float* gg = g.as<float>();
  auto* half = p16.as<bf16>();
  constexpr i64 kBlock = 4096;
#pragma omp parallel for schedule(static) if (n >= kParallelFrom)
  for (i64 start = 0; start < n; start += kBlock) {
    i64 end = start + kBlock < n ? start + kBlock : n;
#pragma omp simd
    for (i64 i = start; i < end; i++) {
      float gi = gg[i] * scale;
      float mi = b1 * mm[i] + c1 * gi, vi = b2 * vv[i] + c2 * gi * gi;
      mm[i] = mi;
      vv[i] = vi;
      pp[i] = pp[i] * keep - rate * mi / (std::sqrt(vi) * root + epsilon);
    }
    if (half) {
#pragma omp simd
      for (i64 i = start; i < end; i++) store(half + i, pp[i]);
    }
  }
}

}  // namespace tstrain::TSTRAIN_ISA
