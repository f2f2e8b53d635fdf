// Attention on tensor cores, for the ops of attention.cu: bfloat16, head_dim 64, 80, 96 or 128, and all in multiples of 16
// bytes. What else there is they do themselves: each function is false, and has done nothing, where it is not made for
// such arguments.
#pragma once
#include "launch.h"

namespace tstrain::cuda {

bool flash_forward(const Context& context, Out out, Out lse, In q, In k, In v, In q_offsets, In k_starts, In k_lengths,
                   i64 documents, i64 heads, i64 kv_heads, i64 head_dim, i64 q_stride, i64 kv_stride, i64 tokens,
                   f64 scale);

// delta: float32 [heads, tokens], Σ dout · out.
bool flash_backward(const Context& context, Out dqkv, In dout, const float* delta, In lse, In qkv, In offsets,
                    i64 documents, i64 heads, i64 kv_heads, i64 head_dim, i64 tokens, f64 scale);

}  // namespace tstrain::cuda
