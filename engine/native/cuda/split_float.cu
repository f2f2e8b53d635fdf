// A float as two numbers of 16 bits, bound by memory: 4 bytes of an element are read and 4 written.
#ifdef __CUDACC_RTC__
#include "on_card.h"

__global__ void __launch_bounds__(256) split_float(bf16* high, i16* low, const float* x, i64 n) {
  each<4>(n, aligned<4>(high) && aligned<4>(low) && aligned<4>(x), [&](i64 i, auto lanes) {
    auto from = take<lanes.count>(x + i);
    Vector<bf16, lanes.count> highs;
    Vector<i16, lanes.count> lows;
    for (int j = 0; j < lanes.count; j++) {
      highs.at[j] = high_of(from.at[j]);
      lows.at[j] = low_of(from.at[j]);
    }
    put(high + i, highs);
    if (low) put(low + i, lows);
  });
}

__global__ void __launch_bounds__(256) join_float(float* x, const bf16* high, const i16* low, i64 n) {
  each<4>(n, aligned<4>(x) && aligned<4>(high) && aligned<4>(low), [&](i64 i, auto lanes) {
    auto highs = take<lanes.count>(high + i);
    auto lows = take<lanes.count>(low + i);
    Vector<float, lanes.count> to;
    for (int j = 0; j < lanes.count; j++) to.at[j] = joined(highs.at[j], lows.at[j]);
    put(x + i, to);
  });
}

KERNELS(split_float, join_float)

#else
#include "launch.h"
#include "parts.h"

namespace tstrain::cuda {

void split_float(const Context& context, Out high, Out low, In x, i64 n) {
  launch(context, kernel("split_float"), vectors(n, x.dtype), high.data, low.data, x.data, n);
}

void join_float(const Context& context, Out x, In high, In low, i64 n) {
  launch(context, kernel("join_float"), vectors(n, x.dtype), x.data, high.data, low.data, n);
}

}  // namespace tstrain::cuda

#endif
