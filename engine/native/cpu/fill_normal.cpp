#include "kernels.h"
#include "random.h"

namespace tstrain::TSTRAIN_ISA {

namespace {
// Uniform in (0, 1].
f64 uniform(std::uint64_t number) { return f64((number >> 11) + 1) * 0x1p-53; }
}  // namespace

// Box–Muller on a counter-based generator: an element depends on (seed, stream, its place) alone, in float64 and without
// vector arithmetic, so that every instruction set makes the same weights.
void fill_normal(const Context&, Out y, i64 n, i64 seed, i64 stream, i64 place, f64 std) {
  std::uint64_t key = stream_of(std::uint64_t(seed), std::uint64_t(stream));
  float* to = y.as<float>();
#pragma omp parallel for schedule(static) if (n >= kParallelFrom)
  for (i64 pair = 0; pair < (n + 1) / 2; pair++) {
    auto at = std::uint64_t(place + 2 * pair);
    f64 radius = std * std::sqrt(-2 * std::log(uniform(number_at(key, at))));
    f64 angle = 6.283185307179586 * uniform(number_at(key, at + 1));
    to[2 * pair] = float(radius * std::cos(angle));
    if (2 * pair + 1 < n) to[2 * pair + 1] = float(radius * std::sin(angle));
  }
}

}  // namespace tstrain::TSTRAIN_ISA
