// Normal numbers, one thread a pair: as cpu/fill_normal.cpp makes them, bound by its float64 functions.
#ifdef __CUDACC_RTC__
#include "on_card.h"

// SplitMix64's output function: a bijection that spreads every input bit.
__device__ inline u64 mix(u64 x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// The counter-th number of a stream, uniform in (0, 1].
__device__ inline double uniform(u64 key, u64 counter) {
  return double((mix(key + counter * 0x9e3779b97f4a7c15ull) >> 11) + 1) * 0x1p-53;
}

// The CPU's numbers but for a unit in the last place, and that about once in ten million: both round to float32 what
// their float64 functions give, and those of two libraries may differ in their last bits. (sincospi, which makes no
// multiple of π first, needs no way for large angles.)
__global__ void __launch_bounds__(256) fill_normal(float* y, i64 n, i64 seed, i64 stream, double std) {
  u64 key = mix(mix(u64(seed) + 0x9e3779b97f4a7c15ull) + u64(stream));
  for (i64 pair = first(); pair < (n + 1) / 2; pair += all()) {
    double radius = std * sqrt(-2 * log(uniform(key, 2 * u64(pair))));
    double sine, cosine;
    sincospi(2 * uniform(key, 2 * u64(pair) + 1), &sine, &cosine);
    y[2 * pair] = float(radius * cosine);
    if (2 * pair + 1 < n) y[2 * pair + 1] = float(radius * sine);
  }
}

KERNELS(fill_normal)

#else
#include "launch.h"

namespace tstrain::cuda {

void fill_normal(const Context& context, Out y, i64 n, i64 seed, i64 stream, f64 std) {
  launch(context, kernel("fill_normal"), blocks_for((n + 1) / 2), y.data, n, seed, stream, std);
}

}  // namespace tstrain::cuda

#endif
