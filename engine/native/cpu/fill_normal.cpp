#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

namespace {
// SplitMix64's output function: a bijection that spreads every input bit.
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// The counter-th number of a stream, uniform in (0, 1].
f64 uniform(std::uint64_t key, std::uint64_t counter) {
  return f64((mix(key + counter * 0x9e3779b97f4a7c15ull) >> 11) + 1) * 0x1p-53;
}
}  // namespace

// Box–Muller on a counter-based generator: element i depends on (seed, stream, i) alone, in float64 and without
// vector arithmetic, so that every instruction set makes the same weights.
void fill_normal(const Context&, Out y, i64 n, i64 seed, i64 stream, f64 std) {
  std::uint64_t key = mix(mix(std::uint64_t(seed) + 0x9e3779b97f4a7c15ull) + std::uint64_t(stream));
  float* to = y.as<float>();
#pragma omp parallel for schedule(static) if (n >= kParallelFrom)
  for (i64 pair = 0; pair < (n + 1) / 2; pair++) {
    f64 radius = std * std::sqrt(-2 * std::log(uniform(key, 2 * std::uint64_t(pair))));
    f64 angle = 6.283185307179586 * uniform(key, 2 * std::uint64_t(pair) + 1);
    to[2 * pair] = float(radius * std::cos(angle));
    if (2 * pair + 1 < n) to[2 * pair + 1] = float(radius * std::sin(angle));
  }
}

}  // namespace tstrain::TSTRAIN_ISA
