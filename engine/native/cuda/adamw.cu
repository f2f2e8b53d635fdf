// AdamW, bound by memory: 16 bytes of each parameter are read and 12 written, 14 with its bfloat16 copy.
#ifdef __CUDACC_RTC__
#include "on_card.h"

__global__ void __launch_bounds__(32)
    clip_scale(double* update, const double* squares, const double* losses, i64 n, double max_norm) {
  bool finite = true;
  if (losses)
    for (i64 i = threadIdx.x; i < n; i += 32) finite = finite && isfinite(losses[i]);
  finite = __all_sync(kWholeWarp, finite);
  if (threadIdx.x > 0) return;
  double norm = sqrt(squares[0]), nothing = __longlong_as_double(0x7ff8000000000000);
  finite = finite && isfinite(norm) && !isnan(update[3]);
  update[2] = finite ? norm : nothing;
  update[3] = !finite ? nothing : max_norm > 0 ? min(1.0, max_norm / (norm + 1e-6)) : 1.0;
}

// Numbers of a step, which each block makes once, in float64: so it has many elements to go through.
struct Step {
  float keep, rate, root, scale;
};

// base to the power of a whole number of steps.
__device__ inline double power(double base, double steps) {
  double result = 1;
  for (u64 n = u64(steps); n > 0; n >>= 1, base *= base)
    if (n & 1) result *= base;
  return result;
}

// Fused by hand: p must not depend on how the compiler does it for one width or the other.
__global__ void __launch_bounds__(256)
    adamw(float* p, float* m, float* v, bf16* p16, const float* g, const double* update, i64 n, double beta1,
          double beta2, float eps, double weight_decay) {
  if (!isfinite(update[2]) || !isfinite(update[3])) return;
  __shared__ Step shared;
  if (threadIdx.x == 0) {
    double steps = update[0], lr = update[1];
    shared.keep = float(1 - lr * weight_decay);
    shared.rate = float(lr / (1 - power(beta1, steps)));
    shared.root = float(1 / sqrt(1 - power(beta2, steps)));
    shared.scale = float(update[3]);
  }
  __syncthreads();
  Step step = shared;
  float b1 = float(beta1), b2 = float(beta2), c1 = float(1 - beta1), c2 = float(1 - beta2);
  each<4>(n, aligned<4>(p, m, v, g) && aligned<4>(p16), [&](i64 i, auto lanes) {
    float pp[lanes.count], mm[lanes.count], vv[lanes.count], gg[lanes.count];
    load(pp, p + i);
    load(mm, m + i);
    load(vv, v + i);
    load(gg, g + i);
    for (int j = 0; j < lanes.count; j++) {
      float gi = gg[j] * step.scale;
      mm[j] = fmaf(b1, mm[j], c1 * gi);
      vv[j] = fmaf(b2, vv[j], c2 * gi * gi);
      pp[j] = fmaf(pp[j], step.keep, -(step.rate * mm[j] / fmaf(sqrtf(vv[j]), step.root, eps)));
    }
    store(m + i, mm);
    store(v + i, vv);
    store(p + i, pp);
    if (p16) store(p16 + i, pp);
  });
}

KERNELS(clip_scale, adamw)

#else
#include "launch.h"

namespace tstrain::cuda {

void clip_scale(const Context& context, Out update, In squares, In losses, i64 n, f64 max_norm) {
  launch(context, kernel("clip_scale"), Grid(1).with_threads(32), update.data, squares.data, losses.data, n, max_norm);
}

void adamw(const Context& context, Out p, Out m, Out v, Out p16, In g, In update, i64 n, f64 beta1, f64 beta2, f64 eps,
           f64 weight_decay) {
  // Four times as many blocks as the largest cards hold at a time.
  launch(context, kernel("adamw"), blocks_for(n, 1024, 4096), p.data, m.data, v.data, p16.data, g.data, update.data, n,
         beta1, beta2, float(eps), weight_decay);
}

}  // namespace tstrain::cuda

#endif
