#include <algorithm>
#include <limits>

#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

void clip_scale(const Context&, Out update, In squares, In losses, i64 n, f64 max_norm) {
  f64 *to = update.as<f64>(), norm = std::sqrt(squares.as<f64>()[0]);
  bool finite = std::isfinite(norm) && !std::isnan(to[3]);
  for (i64 i = 0; losses && i < n; i++) finite = finite && std::isfinite(losses.as<f64>()[i]);
  to[2] = finite ? norm : std::numeric_limits<f64>::quiet_NaN();
  to[3] = !finite ? std::numeric_limits<f64>::quiet_NaN() : max_norm > 0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1;
}

void adamw(const Context&, Out p, Out m, Out v, Out p16, In g, In update, i64 n, f64 beta1, f64 beta2, f64 eps,
           f64 weight_decay) {
  f64 step = update.as<f64>()[0], lr = update.as<f64>()[1], norm = update.as<f64>()[2],
      grad_scale = update.as<f64>()[3];
  if (!std::isfinite(norm) || !std::isfinite(grad_scale)) return;
  float b1 = float(beta1), b2 = float(beta2), c1 = float(1 - beta1), c2 = float(1 - beta2);
  float keep = float(1 - lr * weight_decay), scale = float(grad_scale);
  float rate = float(lr / (1 - std::pow(beta1, step)));
  float root = float(1 / std::sqrt(1 - std::pow(beta2, step))), epsilon = float(eps);
  float *pp = p.as<float>(), *mm = m.as<float>(), *vv = v.as<float>();
  const float* gg = g.as<float>();
  auto* rounded = p16.as<bf16>();
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
    if (rounded) {
#pragma omp simd
      for (i64 i = start; i < end; i++) store(rounded + i, pp[i]);
    }
  }
}

}  // namespace tstrain::TSTRAIN_ISA
