#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

namespace {

template <class F>
void each(Out y, In x, i64 n, F f) {
  float* to = y.as<float>();
  const float* from = x.as<float>();
#pragma omp parallel for simd schedule(static) if (n >= kParallelFrom)
  for (i64 i = 0; i < n; i++) to[i] = f(from[i]);
}

// exp_float stops short of both ends of the range; the square of the half reaches infinity and the denormals.
inline float full_exp(float x) {
  float half = exp_float(0.5f * x);
  return half * half;
}

}  // namespace

void unary(const Context&, Out y, In x, Unary op, i64 n) {
  switch (op) {
    case Unary::negate: return each(y, x, n, [](float v) { return -v; });
    case Unary::abs: return each(y, x, n, [](float v) { return std::fabs(v); });
    case Unary::square: return each(y, x, n, [](float v) { return v * v; });
    case Unary::sqrt: return each(y, x, n, [](float v) { return std::sqrt(v); });
    case Unary::rsqrt: return each(y, x, n, [](float v) { return 1 / std::sqrt(v); });
    case Unary::reciprocal: return each(y, x, n, [](float v) { return 1 / v; });
    case Unary::exp: return each(y, x, n, [](float v) { return full_exp(v); });
    case Unary::log: return each(y, x, n, [](float v) { return std::log(v); });
    case Unary::sigmoid: return each(y, x, n, [](float v) { return 1 / (1 + full_exp(-v)); });
    case Unary::tanh: return each(y, x, n, [](float v) { return std::tanh(v); });
  }
}

}  // namespace tstrain::TSTRAIN_ISA
