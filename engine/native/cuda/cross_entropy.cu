// Cross entropy, one block a row: the logits are read from memory once, for their sum of exponentials; the second reading,
// for the gradient, finds most of the row in the cache (128 KiB of 32,000 logits a block). Each gradient is written once.
#ifdef __CUDACC_RTC__
#include "on_card.h"

template <bool kWide, int N, class D, class L>
__device__ inline void loss_of_row(float* loss, float* lse, D* dlogits, const L* logits, i64 target, float weight,
                                   i64 vocab) {
  i64 step = i64(blockDim.x) * N;
  bool counted = target != -100;
  bool mine = !counted && threadIdx.x == 0;  // this thread has what the loss takes
  float chosen = 0;
  Exponentials sums;
  for (i64 i = i64(threadIdx.x) * N; i < vocab; i += step) {
    float v[N];
    load<kWide>(v, logits + i, vocab - i);
    sums.add(v, vocab - i);
    for (int j = 0; j < N; j++)
      if (i + j == target) {
        mine = true;
        chosen = v[j];
      }
  }
  sums.together();
  float log_sum = logf(sums.sum);
  if (lse && threadIdx.x == 0) *lse = sums.top + log_sum;
  if (mine) {
    // Not lse − chosen: top and chosen are of one size, log Σ of a sure word can be far smaller than a unit in their last
    // place.
    *loss = counted ? log_sum + (sums.top - chosen) : 0;
  }
  if (!dlogits) return;
  if (!counted) weight = 0;
  float scale = weight / sums.sum;
  for (i64 i = i64(threadIdx.x) * N; i < vocab; i += step) {
    float v[N];
    load<kWide>(v, logits + i, vocab - i);
    for (int j = 0; j < N; j++) v[j] = fmaf(exp_or_0(v[j] - sums.top), scale, i + j == target ? -weight : 0);
    store<kWide>(dlogits + i, v, vocab - i);
  }
}

// dlogits may be logits: a thread writes the elements that it has read.
template <class D, class L>
__global__ void __launch_bounds__(1024, 1) cross_entropy(float* loss, float* lse, D* dlogits, const L* logits,
                                                         const i32* targets, const float* weights, i64 vocab) {
  constexpr int N = lanes_of<D, L>();
  i64 row = blockIdx.x;
  logits += row * vocab;
  if (lse) lse += row;
  if (dlogits) dlogits += row * vocab;
  float weight = weights ? weights[row] : 1;
  if (vocab % N == 0 && aligned<N>(logits) && aligned<N>(dlogits))
    loss_of_row<true, N>(loss + row, lse, dlogits, logits, targets[row], weight, vocab);
  else loss_of_row<false, N>(loss + row, lse, dlogits, logits, targets[row], weight, vocab);
}

KERNELS(cross_entropy<float, float>, cross_entropy<float, bf16>, cross_entropy<bf16, float>, cross_entropy<bf16, bf16>)

#else
#include "launch.h"
#include "parts.h"

namespace tstrain::cuda {

void cross_entropy(const Context& context, Out loss, Out lse, Out dlogits, In logits, In targets, In weights, i64 rows,
                   i64 vocab) {
  DType gradient = dlogits ? dlogits.dtype : logits.dtype;
  launch(context, kernel("cross_entropy", {gradient, logits.dtype}),
         Grid(rows).with_threads(row_threads(vocab, DType::f32, 1024)), loss.data, lse.data, dlogits.data, logits.data,
         targets.data, weights.data, vocab);
}

}  // namespace tstrain::cuda

#endif
