#include "kernels.h"
#include "simd.h"
#include "sum_blocks.h"

namespace tstrain::TSTRAIN_ISA {

namespace {
// Sums of blocks of kSumBlock elements, added up in order: the thread count does not change the result.
template <class Term>
void block_sum(const Context& context, Out out, In x, i64 n, Term term) {
  auto* partial = static_cast<f64*>(context.workspace);
  i64 blocks = sum_blocks(n);
  with_float_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* p = x.as<T>();
#pragma omp parallel for schedule(static) if (n >= kParallelFrom)
    for (i64 b = 0; b < blocks; b++) {
      i64 end = (b + 1) * kSumBlock < n ? (b + 1) * kSumBlock : n;
      f64 sum = 0;
#pragma omp simd reduction(+ : sum)
      for (i64 i = b * kSumBlock; i < end; i++) sum += term(f64(load(p + i)));
      partial[b] = sum;
    }
  });
  f64 total = 0;
  for (i64 b = 0; b < blocks; b++) total += partial[b];
  *out.as<f64>() = total;
}
}  // namespace

void sum_squares(const Context& context, Out out, In x, i64 n) {
  block_sum(context, out, x, n, [](f64 v) { return v * v; });
}

void sum(const Context& context, Out out, In x, i64 n) {
  block_sum(context, out, x, n, [](f64 v) { return v; });
}

}  // namespace tstrain::TSTRAIN_ISA
