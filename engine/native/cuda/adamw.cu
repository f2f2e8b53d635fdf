// AdamW, bound by memory. Bytes of each parameter, read and written:
//
//   float32                                        16 + 12
//   split into bfloat16 and its remainder          16 + 12
//   the same with gradients of bfloat16            14 + 12
//   the same with moments of bfloat16              10 + 8
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
  u64 stream;
};

// base to the power of a whole number of steps.
__device__ inline double power(double base, double steps) {
  double result = 1;
  for (u64 n = u64(steps); n > 0; n >>= 1, base *= base)
    if (n & 1) result *= base;
  return result;
}

// Parameters as they are kept: whole, or split.
template <int N>
__device__ inline void load_parameters(float (&x)[N], const float* p, const i16*) {
  load(x, p);
}
template <int N>
__device__ inline void store_parameters(float* p, i16*, const float (&x)[N]) {
  store(p, x);
}
template <int N>
__device__ inline void load_parameters(float (&x)[N], const bf16* high, const i16* low) {
  auto highs = take<N>(high);
  auto lows = take<N>(low);
  for (int j = 0; j < N; j++) x[j] = joined(highs.at[j], lows.at[j]);
}
template <int N>
__device__ inline void store_parameters(bf16* high, i16* low, const float (&x)[N]) {
  Vector<bf16, N> highs;
  Vector<i16, N> lows;
  for (int j = 0; j < N; j++) {
    highs.at[j] = high_of(x[j]);
    lows.at[j] = low_of(x[j]);
  }
  put(high, highs);
  put(low, lows);
}

// The moments of elements from `place` on.
template <int N>
__device__ inline void store_moments(float* m, float* v, const float (&mm)[N], const float (&vv)[N], u64, u64) {
  store(m, mm);
  store(v, vv);
}
// random: 16 bits.
__device__ inline bf16 rounded_by(float x, u32 random) {
  u32 bits = __float_as_uint(x);
  return {u16(is_nan(bits) ? bits >> 16 | 0x40 : (bits + random) >> 16)};
}
template <int N>
__device__ inline void store_moments(bf16* m, bf16* v, const float (&mm)[N], const float (&vv)[N], u64 stream,
                                     u64 place) {
  Vector<bf16, N> ms, vs;
  for (int j = 0; j < N; j++) {
    u32 random = u32(number_at(stream, place + j) >> 32);
    ms.at[j] = rounded_by(mm[j], random >> 16);
    vs.at[j] = rounded_by(vv[j], random & 0xffff);
  }
  put(m, ms);
  put(v, vs);
}

// Fused by hand: p must not depend on how the compiler does it for one width or the other.
template <class P, class M, class G>
__global__ void __launch_bounds__(256)
    adamw(P* p, i16* remainder, M* m, M* v, const G* g, const double* update, i64 n, double beta1, double beta2,
          float eps, double weight_decay, i64 seed, i64 place) {
  if (!isfinite(update[2]) || !isfinite(update[3])) return;
  __shared__ Step shared;
  if (threadIdx.x == 0) {
    double steps = update[0], lr = update[1];
    shared.keep = float(1 - lr * weight_decay);
    shared.rate = float(lr / (1 - power(beta1, steps)));
    shared.root = float(1 / sqrt(1 - power(beta2, steps)));
    shared.scale = float(update[3]);
    shared.stream = stream_of(u64(seed), (1ull << 32) + u64(steps));
  }
  __syncthreads();
  Step step = shared;
  float b1 = float(beta1), b2 = float(beta2), c1 = float(1 - beta1), c2 = float(1 - beta2);
  constexpr int N = lanes_of<P, M, G>();
  bool wide = aligned<N>(p) && aligned<N>(remainder) && aligned<N>(m, v) && aligned<N>(g);
  each<N>(n, wide, [&](i64 i, auto lanes) {
    float pp[lanes.count], mm[lanes.count], vv[lanes.count], gg[lanes.count];
    load_parameters(pp, p + i, remainder + i);
    load(mm, m + i);
    load(vv, v + i);
    load(gg, g + i);
    for (int j = 0; j < lanes.count; j++) {
      float gi = gg[j] * step.scale;
      mm[j] = fmaf(b1, mm[j], c1 * gi);
      vv[j] = fmaf(b2, vv[j], c2 * gi * gi);
      pp[j] = fmaf(pp[j], step.keep, -(step.rate * mm[j] / fmaf(sqrtf(vv[j]), step.root, eps)));
    }
    store_moments(m + i, v + i, mm, vv, step.stream, u64(place + i));
    store_parameters(p + i, remainder + i, pp);
  });
}

KERNELS(clip_scale)
KERNELS(adamw<float, float, float>, adamw<float, float, bf16>, adamw<float, bf16, float>, adamw<float, bf16, bf16>)
KERNELS(adamw<bf16, float, float>, adamw<bf16, float, bf16>, adamw<bf16, bf16, float>, adamw<bf16, bf16, bf16>)

#else
#include "launch.h"
#include "parts.h"

namespace tstrain::cuda {

void clip_scale(const Context& context, Out update, In squares, In losses, i64 n, f64 max_norm) {
  launch(context, kernel("clip_scale"), Grid(1).with_threads(32), update.data, squares.data, losses.data, n, max_norm);
}

void adamw(const Context& context, Out p, Out remainder, Out m, Out v, In g, In update, i64 n, f64 beta1, f64 beta2,
           f64 eps, f64 weight_decay, i64 seed, i64 place) {
  i64 lanes = 16 / size_of(larger(larger(p.dtype, m.dtype), g.dtype));
  // Four times as many blocks as the largest cards hold at a time.
  launch(context, kernel("adamw", {p.dtype, m.dtype, g.dtype}), blocks_for(n, 256 * lanes, 4096), p.data,
         remainder.data, m.data, v.data, g.data, update.data, n, beta1, beta2, float(eps), weight_decay, seed, place);
}

}  // namespace tstrain::cuda

#endif
