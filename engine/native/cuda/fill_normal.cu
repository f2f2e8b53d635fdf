// Normal numbers, one thread a pair: as cpu/fill_normal.cpp makes them, bound by its float64 functions.
#ifdef __CUDACC_RTC__
#include "on_card.h"

// Uniform in (0, 1].
__device__ inline double uniform(u64 number) { return double((number >> 11) + 1) * 0x1p-53; }

// The CPU's numbers but for a unit in the last place, and that about once in ten million: both round to float32 what
// their float64 functions give, and those of two libraries may differ in their last bits. (sincospi, which makes no
// multiple of π first, needs no way for large angles.)
__global__ void __launch_bounds__(256) fill_normal(float* y, i64 n, i64 seed, i64 stream, i64 place, double std) {
  u64 key = stream_of(u64(seed), u64(stream));
  for (i64 pair = first(); pair < (n + 1) / 2; pair += all()) {
    u64 at = u64(place + 2 * pair);
    double radius = std * sqrt(-2 * log(uniform(number_at(key, at))));
    double sine, cosine;
    sincospi(2 * uniform(number_at(key, at + 1)), &sine, &cosine);
    y[2 * pair] = float(radius * cosine);
    if (2 * pair + 1 < n) y[2 * pair + 1] = float(radius * sine);
  }
}

KERNELS(fill_normal)

#else
#include "launch.h"

namespace tstrain::cuda {

void fill_normal(const Context& context, Out y, i64 n, i64 seed, i64 stream, i64 place, f64 std) {
  launch(context, kernel("fill_normal"), blocks_for((n + 1) / 2), y.data, n, seed, stream, place, std);
}

}  // namespace tstrain::cuda

#endif
