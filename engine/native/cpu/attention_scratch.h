// Scratch of one attention task, the same for every instruction set so that the plan need not know it. Int: i64, or
// Checked where sizes are a caller's.
#pragma once
#include "../checked.h"

namespace tstrain {

constexpr i64 kAttentionTile = 64;

namespace detail {
// Rows are padded to the longest vector (16 floats), tokens to a tile.
template <class Int>
Int padded_dim(Int head_dim) {
  return (head_dim + 15) / 16 * 16;
}
template <class Int>
Int padded_tokens(Int n) {
  return (n + (kAttentionTile - 1)) / kAttentionTile * kAttentionTile;
}
template <class Int>
Int tiles(Int head_dim, i64 row_buffers, i64 score_buffers) {
  return row_buffers * kAttentionTile * padded_dim(head_dim) + score_buffers * kAttentionTile * kAttentionTile +
         4 * kAttentionTile;
}
}  // namespace detail

template <class Int>
Int attention_forward_floats(Int max_k, Int head_dim) {
  return 2 * detail::padded_tokens(max_k) * detail::padded_dim(head_dim) + detail::tiles(head_dim, 2, 1);
}

template <class Int>
Int attention_backward_floats(Int max_tokens, Int head_dim) {
  return 5 * detail::padded_tokens(max_tokens) * detail::padded_dim(head_dim) + detail::tiles(head_dim, 3, 2);
}

}  // namespace tstrain
