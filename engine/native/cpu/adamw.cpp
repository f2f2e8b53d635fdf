#include <algorithm>
#include <limits>

#include "kernels.h"
#include "random.h"
#include "split_float.h"

namespace tstrain::TSTRAIN_ISA {

void clip_scale(const Context&, Out update, In squares, In losses, i64 n, f64 max_norm) {
  f64 *to = update.as<f64>(), norm = std::sqrt(squares.as<f64>()[0]);
  bool finite = std::isfinite(norm) && !std::isnan(to[3]);
  for (i64 i = 0; losses && i < n; i++) finite = finite && std::isfinite(losses.as<f64>()[i]);
  to[2] = finite ? norm : std::numeric_limits<f64>::quiet_NaN();
  to[3] = !finite ? std::numeric_limits<f64>::quiet_NaN() : max_norm > 0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1;
}

namespace {

// Parameters as they are kept.
struct Whole {
  float* p;
  float load(i64 i) const { return p[i]; }
  void store(i64 i, float x) const { p[i] = x; }
};

struct Halves {
  bf16* high;
  std::int16_t* low;
  float load(i64 i) const { return joined(high[i], low[i]); }
  void store(i64 i, float x) const {
    high[i] = high_of(x);
    low[i] = low_of(x);
  }
};

void store_moment(float* to, float x, std::uint32_t) { *to = x; }

// random: 16 bits.
void store_moment(bf16* to, float x, std::uint32_t random) {
  std::uint32_t bits = float_to_bits(x), quiet = (bits >> 16) | 0x40u;
  to->bits = std::uint16_t(is_nan(bits) ? quiet : (bits + random) >> 16);
}

struct Step {
  float b1, b2, c1, c2, keep, scale, rate, root, epsilon;
  std::uint64_t stream;
};

template <class P, class M, class G>
void update_all(P p, M* m, M* v, const G* g, i64 n, Step s, i64 place) {
  constexpr i64 kBlock = 4096;
#pragma omp parallel for schedule(static) if (n >= kParallelFrom)
  for (i64 start = 0; start < n; start += kBlock) {
    i64 end = start + kBlock < n ? start + kBlock : n;
#pragma omp simd
    for (i64 i = start; i < end; i++) {
      float gi = load(g + i) * s.scale;
      float mi = s.b1 * load(m + i) + s.c1 * gi, vi = s.b2 * load(v + i) + s.c2 * gi * gi;
      std::uint32_t random = 0;
      if constexpr (std::is_same_v<M, bf16>)
        random = std::uint32_t(number_at(s.stream, std::uint64_t(place + i)) >> 32);
      store_moment(m + i, mi, random >> 16);
      store_moment(v + i, vi, random & 0xffffu);
      p.store(i, p.load(i) * s.keep - s.rate * mi / (std::sqrt(vi) * s.root + s.epsilon));
    }
  }
}

}  // namespace

void adamw(const Context&, Out p, Out remainder, Out m, Out v, In g, In update, i64 n, f64 beta1, f64 beta2, f64 eps,
           f64 weight_decay, i64 seed, i64 place) {
  f64 step = update.as<f64>()[0], lr = update.as<f64>()[1], norm = update.as<f64>()[2],
      grad_scale = update.as<f64>()[3];
  if (!std::isfinite(norm) || !std::isfinite(grad_scale)) return;
  Step s;
  s.b1 = float(beta1), s.b2 = float(beta2), s.c1 = float(1 - beta1), s.c2 = float(1 - beta2);
  s.keep = float(1 - lr * weight_decay), s.scale = float(grad_scale);
  s.rate = float(lr / (1 - std::pow(beta1, step)));
  s.root = float(1 / std::sqrt(1 - std::pow(beta2, step))), s.epsilon = float(eps);
  s.stream = stream_of(std::uint64_t(seed), (1ull << 32) + std::uint64_t(step));
  with_float_type(m.dtype, [&](auto* tm) {
    using M = std::remove_pointer_t<decltype(tm)>;
    with_float_type(g.dtype, [&](auto* tg) {
      using G = std::remove_pointer_t<decltype(tg)>;
      auto run = [&](auto parameters) { update_all(parameters, m.as<M>(), v.as<M>(), g.as<G>(), n, s, place); };
      if (remainder) run(Halves{p.as<bf16>(), remainder.as<std::int16_t>()});
      else run(Whole{p.as<float>()});
    });
  });
}

}  // namespace tstrain::TSTRAIN_ISA
