#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

// A float32 sum over a vocabulary loses digits with its length: parts of it are summed first.
constexpr i64 kSumColumns = 1024;

// The exponentials of a row are kept in a scratch row that stays in the cache, so each is computed once, and the
// gradient may be written over the logits in another type than theirs.
void cross_entropy(const Context& context, Out loss, Out lse, Out dlogits, In logits, In targets, In weights, i64 rows,
                   i64 vocab) {
  const auto* target = targets.as<std::int32_t>();
  with_float_type(logits.dtype, [&](auto* l) {
    using L = std::remove_pointer_t<decltype(l)>;
    with_float_type(dlogits ? dlogits.dtype : DType::f32, [&](auto* d) {
      using D = std::remove_pointer_t<decltype(d)>;
      bool parallel = rows * vocab >= kParallelFrom;
#pragma omp parallel if (parallel)
      {
        float* e = static_cast<float*>(context.workspace) + omp_get_thread_num() * vocab;
#pragma omp for schedule(static)
        for (i64 r = 0; r < rows; r++) {
          const L* x = logits.as<L>() + r * vocab;
          float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
          for (i64 i = 0; i < vocab; i++) top = load(x + i) > top ? load(x + i) : top;
          float sum = 0;
          for (i64 start = 0; start < vocab; start += kSumColumns) {
            i64 end = start + kSumColumns < vocab ? start + kSumColumns : vocab;
            float part = 0;
#pragma omp simd reduction(+ : part)
            for (i64 i = start; i < end; i++) {
              e[i] = exp_float(load(x + i) - top);
              part += e[i];
            }
            sum += part;
          }
          bool counted = target[r] != -100;
          float log_sum = std::log(sum);
          if (lse) lse.as<float>()[r] = top + log_sum;
          // Not lse − chosen: top and chosen are of one size, log Σ of a sure word can be far smaller than a unit in
          // their last place.
          loss.as<float>()[r] = counted ? log_sum + (top - load(x + target[r])) : 0;
          if (!dlogits) continue;
          D* dx = dlogits.as<D>() + r * vocab;
          float weight = !counted ? 0 : weights ? weights.as<float>()[r] : 1.f;
          float scale = weight / sum;
#pragma omp simd
          for (i64 i = 0; i < vocab; i++) store(dx + i, e[i] * scale);
          if (counted) store(dx + target[r], e[target[r]] * scale - weight);
        }
      }
    });
  });
}

}  // namespace tstrain::TSTRAIN_ISA
