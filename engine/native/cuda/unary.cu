// Elementwise kernels of one tensor, bound by memory: one thread a vector.

// In the order of ops.h, which the host's half checks.
#define UNARY(OP) OP(negate) OP(abs) OP(square) OP(sqrt) OP(rsqrt) OP(reciprocal) OP(exp) OP(log) OP(sigmoid) OP(tanh)

#ifdef __CUDACC_RTC__
#include "on_card.h"

#define ENTRY(name) name,
enum class Unary : i64 { UNARY(ENTRY) };
#undef ENTRY

__device__ inline float value_of(Unary op, float x) {
  switch (op) {
    case Unary::negate: return -x;
    case Unary::abs: return fabsf(x);
    case Unary::square: return x * x;
    case Unary::sqrt: return sqrtf(x);
    case Unary::rsqrt: return 1.f / sqrtf(x);
    case Unary::reciprocal: return 1.f / x;
    case Unary::exp: return expf(x);
    case Unary::log: return logf(x);
    case Unary::sigmoid: return 1.f / (1.f + expf(-x));
    case Unary::tanh: return tanhf(x);
  }
  return x;
}

__global__ void __launch_bounds__(256) unary(float* y, const float* x, i64 op, i64 n) {
  each<4>(n, aligned<4>(y, x), [&](i64 i, auto lanes) {
    float v[lanes.count];
    load(v, x + i);
    for (int j = 0; j < lanes.count; j++) v[j] = value_of(Unary(op), v[j]);
    store(y + i, v);
  });
}

KERNELS(unary)

#else
#include "launch.h"
#include "parts.h"

namespace tstrain::cuda {

#define ENTRY(name) Unary::name,
constexpr Unary kWords[] = {UNARY(ENTRY)};
#undef ENTRY
static_assert(all_in_order(kWords), "UNARY has other words than ops.h, or another order");

void unary(const Context& context, Out y, In x, Unary op, i64 n) {
  launch(context, kernel("unary"), vectors(n, DType::f32), y.data, x.data, i64(op), n);
}

}  // namespace tstrain::cuda

#endif
