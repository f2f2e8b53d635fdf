// Reductions over an axis of x [outer, n, inner], bound by memory: x is read once, dense along its last axis. A block makes
// some numbers, each by as many of its 256 threads, in a fixed order; a long axis of few numbers is cut into parts, which are
// reduced in turn.

// In the order of ops.h, which the host's half checks.
#define REDUCTION(OP) OP(sum) OP(mean) OP(max) OP(min)

#ifdef __CUDACC_RTC__
#include "on_card.h"

#define ENTRY(name) name,
enum class Reduction : i64 { REDUCTION(ENTRY) };
#undef ENTRY

// Sums of floats are float64.
template <class T>
struct Sum {
  using type = double;
};
template <>
struct Sum<i32> {
  using type = u32;  // wraps around
};

template <class S, class X, class Step>
__device__ inline S reduced(const X* x, i64 from, i64 to, i64 inner, u32 lanes, u32 lane, u32 group, S first,
                            Step step) {
  __shared__ S parts[256];
  S s = first;
#pragma unroll 4
  for (i64 k = from + group; k < to; k += 256 / lanes) s = step(s, S(x[k * inner]));
  parts[group * lanes + lane] = s;
  for (u32 half = 128 / lanes; half > 0; half /= 2) {
    __syncthreads();
    if (group < half) parts[group * lanes + lane] = s = step(s, parts[(group + half) * lanes + lane]);
  }
  return s;
}

// y [parts, outer, inner]: part blockIdx.y of the axis.
template <class Y, class X>
__global__ void __launch_bounds__(256, 4)
    reduce_axis(Y* y, const X* x, i64 op, i64 outer, i64 n, i64 inner, i64 numbers, i64 part, double scale) {
  // The threads of a warp read what lies side by side.
  u32 lanes = u32(numbers), groups = 256 / lanes;
  u32 lane = inner > 1 ? threadIdx.x % lanes : threadIdx.x / groups;
  u32 group = inner > 1 ? threadIdx.x / lanes : threadIdx.x % groups;
  i64 at = i64(blockIdx.x) * lanes + lane, from = blockIdx.y * part;
  bool inside = at < outer * inner;
  // A thread without a number of its own reduces nothing, with the others.
  i64 to = inside ? min(from + part, n) : from;
  auto [o, i] = divided(inside ? at : 0, inner);
  x += o * n * inner + i;
  auto run = [&](auto first, auto step) { return reduced(x, from, to, inner, lanes, lane, group, first, step); };
  Y result;
  if (Reduction(op) <= Reduction::mean) {
    using S = typename Sum<X>::type;
    S sum = run(S(0), [](S s, S v) { return s + v; });
    if constexpr (sizeof(S) == 8) result = Y(sum * scale);
    else result = Y(sum);
  } else {
    // A NaN stays: no comparison with it is true but v != v.
    constexpr bool whole = sizeof(typename Sum<X>::type) == 4;
    X least = whole ? X(-2147483647 - 1) : X(-kInfinity), most = whole ? X(2147483647) : X(kInfinity);
    if (Reduction(op) == Reduction::max) result = Y(run(least, [](X s, X v) { return v > s || v != v ? v : s; }));
    else result = Y(run(most, [](X s, X v) { return v < s || v != v ? v : s; }));
  }
  if (inside && group == 0) y[blockIdx.y * outer * inner + at] = result;
}

KERNELS(reduce_axis<float, float>, reduce_axis<i32, i32>, reduce_axis<double, float>, reduce_axis<float, double>)

#else
#include "launch.h"
#include "parts.h"

namespace tstrain::cuda {

#define ENTRY(name) Reduction::name,
constexpr Reduction kWords[] = {REDUCTION(ENTRY)};
#undef ENTRY
static_assert(all_in_order(kWords), "REDUCTION has other words than ops.h, or another order");

void reduce_axis(const Context& context, Out y, In x, Reduction op, i64 outer, i64 n, i64 inner) {
  Parts parts = axis_parts(outer, n, inner);
  auto pass = [&](void* to, DType to_type, const void* from, DType from_type, i64 outer, i64 n, Parts cut, f64 scale) {
    // At least eight elements a thread; where numbers lie side by side, as many of them as a warp reads at a time.
    i64 side_by_side = 1, threads = 1;
    while (side_by_side < 32 && side_by_side < inner) side_by_side *= 2;
    while (threads < 256 / side_by_side && threads * 8 < cut.size) threads *= 2;
    i64 lanes = 256 / threads;
    launch(context, kernel("reduce_axis", {to_type, from_type}), Grid((outer * inner + lanes - 1) / lanes, cut.count),
           to, from, i64(op), outer, n, inner, lanes, cut.size, scale);
  };
  f64 scale = op == Reduction::mean ? 1 / f64(n) : 1;
  if (parts.count == 1) return pass(y.data, y.dtype, x.data, x.dtype, outer, n, parts, scale);
  DType between = partial_type(op, x.dtype);
  pass(context.workspace, between, x.data, x.dtype, outer, n, parts, 1);
  // The parts' results are an axis in front.
  inner *= outer;
  pass(y.data, y.dtype, context.workspace, between, 1, parts.count, {1, parts.count}, scale);
}

}  // namespace tstrain::cuda

#endif
