// Scratch of one attention task, the same for every instruction set so that the plan need not know it.
#pragma once
#include "../ops.h"

namespace tstrain {

constexpr i64 kAttentionTile = 64;

namespace detail {
// Rows are padded to the longest vector (16 floats), tokens to a tile.
inline i64 padded_dim(i64 head_dim) { return (head_dim + 15) / 16 * 16; }
inline i64 padded_tokens(i64 n) { return (n + kAttentionTile - 1) / kAttentionTile * kAttentionTile; }
inline i64 tiles(i64 head_dim, i64 row_buffers, i64 score_buffers) {
  return row_buffers * kAttentionTile * padded_dim(head_dim) + score_buffers * kAttentionTile * kAttentionTile +
         4 * kAttentionTile;
}
}  // namespace detail

inline i64 attention_forward_floats(i64 max_k, i64 head_dim) {
  return 2 * detail::padded_tokens(max_k) * detail::padded_dim(head_dim) + detail::tiles(head_dim, 2, 1);
}

inline i64 attention_backward_floats(i64 max_tokens, i64 head_dim) {
  return 5 * detail::padded_tokens(max_tokens) * detail::padded_dim(head_dim) + detail::tiles(head_dim, 3, 2);
}

}  // namespace tstrain
