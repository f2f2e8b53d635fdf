// Causal attention over documents by CUDA cores: any head_dim, float32 as well as bfloat16. Nothing is tiled, so keys are
// read again by each query: it serves where no kernel for tensor cores does.
//
// A warp has one query of one head (or, for dk and dv, one key of one key/value head). It goes over the keys it sees 32 at
// a time: a lane first has a key of its own and makes its score, then a dimension of its own and adds up what all 32 keys
// bring to it. One writer for each value, always in the same order.
#ifdef __CUDACC_RTC__
#include "on_card.h"

constexpr int kWarps = 4;
// Blocks that share a multiprocessor, which leaves a thread 102 registers: with what ptxas takes by itself, it spills.
constexpr int kBlocks = 5;

// The document of a row: the last one that starts at it or before.
__device__ inline i64 document_of(const i32* offsets, i64 documents, i64 row) {
  i64 low = 0, high = documents;
  while (high - low > 1) {
    i64 middle = (low + high) / 2;
    if (offsets[middle] <= row) low = middle;
    else high = middle;
  }
  return low;
}

template <class T>
__device__ inline float dot(const float* a, const T* b, i64 n) {
  float sum = 0;
  for (i64 i = 0; i < n; i++) sum += a[i] * load(b + i);
  return sum;
}

// sums[d] = sums[d] · keep + Σ_lane weight · rows[lane · stride + d] over the first `count` lanes.
template <class T>
__device__ inline void add_weighted(float* sums, float keep, float weight, const T* rows, i64 stride, int count,
                                    i64 head_dim, int lane) {
  for (i64 d0 = 0; d0 < head_dim; d0 += 32) {
    i64 d = d0 + lane;
    float sum = d < head_dim ? sums[d] * keep : 0;
    for (int i = 0; i < count; i++) {
      float w = __shfl_sync(kWholeWarp, weight, i);
      if (d < head_dim) sum += w * load(rows + i * stride + d);
    }
    if (d < head_dim) sums[d] = sum;
  }
}

__device__ inline int up_to_32(i64 n) { return n < 32 ? int(n) : 32; }

extern __shared__ float shared[];

// A row of the head in float32, for all lanes.
template <class T>
__device__ inline void take_row(float* to, const T* from, i64 head_dim, float scale, int lane) {
  for (i64 d = lane; d < head_dim; d += 32) to[d] = load(from + d) * scale;
}

__device__ inline void clear(float* sums, i64 head_dim, int lane) {
  for (i64 d = lane; d < head_dim; d += 32) sums[d] = 0;
}

template <class T>
__device__ inline void give_row(T* to, const float* from, i64 head_dim, float scale, int lane) {
  for (i64 d = lane; d < head_dim; d += 32) store(to + d, from[d] * scale);
}

template <class T>
__global__ void __launch_bounds__(32 * kWarps, kBlocks)
    attention_forward(T* out, float* lse, const T* q, const T* k, const T* v, const i32* q_offsets, const i32* k_starts,
                      const i32* k_lengths, i64 documents, i64 heads, i64 kv_heads, i64 head_dim, i64 q_stride,
                      i64 kv_stride, i64 tokens, float scale) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  i64 row = i64(blockIdx.x) * kWarps + warp, head = blockIdx.y, at = head / (heads / kv_heads) * head_dim;
  if (row >= tokens) return;
  i64 document = document_of(q_offsets, documents, row);
  // The last query sees the last key.
  i64 seen = k_lengths[document] - (q_offsets[document + 1] - row) + 1;
  k += k_starts[document] * kv_stride + at;
  v += k_starts[document] * kv_stride + at;
  float *query = shared + warp * 2 * head_dim, *sums = query + head_dim;
  take_row(query, q + row * q_stride + head * head_dim, head_dim, scale, lane);
  clear(sums, head_dim, lane);
  __syncwarp();
  float top = -kInfinity, total = 0;
  for (i64 j = 0; j < seen; j += 32) {
    float score = j + lane < seen ? dot(query, k + (j + lane) * kv_stride, head_dim) : -kInfinity;
    float new_top = fmaxf(top, warp_max(score)), keep = expf(top - new_top), p = expf(score - new_top);
    total = total * keep + warp_sum(p);
    top = new_top;
    add_weighted(sums, keep, p, v + j * kv_stride, kv_stride, up_to_32(seen - j), head_dim, lane);
  }
  give_row(out + (row * heads + head) * head_dim, sums, head_dim, 1.f / total, lane);
  if (lse && lane == 0) lse[head * tokens + row] = top + logf(total);
}

// delta[head, row] = Σ dout · out: what softmax's gradient takes away from each score's.
template <class T>
__global__ void __launch_bounds__(32 * kWarps, kBlocks)
    attention_delta(float* delta, const T* dout, const T* out, i64 heads, i64 head_dim, i64 tokens) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  i64 row = i64(blockIdx.x) * kWarps + warp, head = blockIdx.y, at = (row * heads + head) * head_dim;
  if (row >= tokens) return;
  float sum = 0;
  for (i64 d = lane; d < head_dim; d += 32) sum += load(dout + at + d) * load(out + at + d);
  sum = warp_sum(sum);
  if (lane == 0) delta[head * tokens + row] = sum;
}

// dq of a query: Σ_j ds_j · k_j, with ds_j = p_j · (dout · v_j − delta).
template <class T>
__global__ void __launch_bounds__(32 * kWarps, kBlocks)
    attention_backward_queries(T* dqkv, const T* dout, const float* lse, const float* delta, const T* qkv,
                               const i32* offsets, i64 documents, i64 heads, i64 kv_heads, i64 head_dim, i64 tokens,
                               float scale) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  i64 row = i64(blockIdx.x) * kWarps + warp, head = blockIdx.y, kv_head = head / (heads / kv_heads);
  if (row >= tokens) return;
  i64 stride = (heads + 2 * kv_heads) * head_dim, start = offsets[document_of(offsets, documents, row)];
  const T *k = qkv + start * stride + (heads + kv_head) * head_dim, *v = k + kv_heads * head_dim;
  float *query = shared + warp * 3 * head_dim, *gradient = query + head_dim, *sums = gradient + head_dim;
  take_row(query, qkv + row * stride + head * head_dim, head_dim, scale, lane);
  take_row(gradient, dout + (row * heads + head) * head_dim, head_dim, 1.f, lane);
  clear(sums, head_dim, lane);
  __syncwarp();
  float log_total = lse[head * tokens + row], less = delta[head * tokens + row];
  i64 seen = row - start + 1;
  for (i64 j = 0; j < seen; j += 32) {
    float ds = 0;
    if (j + lane < seen) {
      i64 at = (j + lane) * stride;
      ds = expf(dot(query, k + at, head_dim) - log_total) * (dot(gradient, v + at, head_dim) - less);
    }
    add_weighted(sums, 1.f, ds, k + j * stride, stride, up_to_32(seen - j), head_dim, lane);
  }
  give_row(dqkv + row * stride + head * head_dim, sums, head_dim, scale, lane);
}

// dk and dv of a key: Σ ds_i · q_i and Σ p_i · dout_i over the queries that see it, of all heads that share it.
template <class T>
__global__ void __launch_bounds__(32 * kWarps, kBlocks)
    attention_backward_keys(T* dqkv, const T* dout, const float* lse, const float* delta, const T* qkv,
                            const i32* offsets, i64 documents, i64 heads, i64 kv_heads, i64 head_dim, i64 tokens,
                            float scale) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  i64 row = i64(blockIdx.x) * kWarps + warp, kv_head = blockIdx.y, group = heads / kv_heads;
  if (row >= tokens) return;
  i64 stride = (heads + 2 * kv_heads) * head_dim, end = offsets[document_of(offsets, documents, row) + 1];
  i64 k_at = row * stride + (heads + kv_head) * head_dim, v_at = k_at + kv_heads * head_dim;
  float *key = shared + warp * 4 * head_dim, *value = key + head_dim, *dk = value + head_dim, *dv = dk + head_dim;
  take_row(key, qkv + k_at, head_dim, scale, lane);
  take_row(value, qkv + v_at, head_dim, 1.f, lane);
  clear(dk, head_dim, lane);
  clear(dv, head_dim, lane);
  __syncwarp();
  for (i64 head = kv_head * group; head < (kv_head + 1) * group; head++) {
    const T *q = qkv + head * head_dim, *d = dout + head * head_dim;
    for (i64 i = row; i < end; i += 32) {
      i64 query = i + lane;
      float p = 0, ds = 0;
      if (query < end) {
        p = expf(dot(key, q + query * stride, head_dim) - lse[head * tokens + query]);
        ds = p * (dot(value, d + query * heads * head_dim, head_dim) - delta[head * tokens + query]);
      }
      int count = up_to_32(end - i);
      add_weighted(dk, 1.f, ds, q + i * stride, stride, count, head_dim, lane);
      add_weighted(dv, 1.f, p, d + i * heads * head_dim, heads * head_dim, count, head_dim, lane);
    }
  }
  give_row(dqkv + k_at, dk, head_dim, scale, lane);
  give_row(dqkv + v_at, dv, head_dim, 1.f, lane);
}

KERNELS(attention_forward<float>, attention_forward<bf16>, attention_delta<float>, attention_delta<bf16>,
        attention_backward_queries<float>, attention_backward_queries<bf16>, attention_backward_keys<float>,
        attention_backward_keys<bf16>)

#else
#include "flash_attention.h"

namespace tstrain::cuda {

namespace {

constexpr i64 kWarps = 4;

// One warp for each row of each head, with so many rows of the head in shared memory.
Grid warps(i64 rows, i64 heads, i64 in_shared, i64 head_dim) {
  return Grid((rows + kWarps - 1) / kWarps, heads)
      .with_threads(32 * kWarps)
      .with_shared(kWarps * in_shared * head_dim * i64(sizeof(float)));
}

}  // namespace

void attention_forward(const Context& context, Out out, Out lse, In q, In k, In v, In q_offsets, In k_starts,
                       In k_lengths, i64 documents, i64 heads, i64 kv_heads, i64 head_dim, i64 q_stride, i64 kv_stride,
                       i64 tokens, i64, i64, f64, f64 scale) {
  if (flash_forward(context, out, lse, q, k, v, q_offsets, k_starts, k_lengths, documents, heads, kv_heads, head_dim,
                    q_stride, kv_stride, tokens, scale))
    return;
  launch(context, kernel("attention_forward", {q.dtype}), warps(tokens, heads, 2, head_dim), out.data, lse.data, q.data,
         k.data, v.data, q_offsets.data, k_starts.data, k_lengths.data, documents, heads, kv_heads, head_dim, q_stride,
         kv_stride, tokens, float(scale));
}

void attention_backward(const Context& context, Out dqkv, In dout, In out, In lse, In qkv, In offsets, i64 documents,
                        i64 heads, i64 kv_heads, i64 head_dim, i64 tokens, i64, f64, f64 scale) {
  auto* delta = static_cast<float*>(context.workspace);
  launch(context, kernel("attention_delta", {qkv.dtype}), warps(tokens, heads, 0, head_dim), delta, dout.data, out.data,
         heads, head_dim, tokens);
  if (flash_backward(context, dqkv, dout, delta, lse, qkv, offsets, documents, heads, kv_heads, head_dim, tokens,
                     scale))
    return;
  launch(context, kernel("attention_backward_queries", {qkv.dtype}), warps(tokens, heads, 3, head_dim), dqkv.data,
         dout.data, lse.data, delta, qkv.data, offsets.data, documents, heads, kv_heads, head_dim, tokens,
         float(scale));
  launch(context, kernel("attention_backward_keys", {qkv.dtype}), warps(tokens, kv_heads, 4, head_dim), dqkv.data,
         dout.data, lse.data, delta, qkv.data, offsets.data, documents, heads, kv_heads, head_dim, tokens,
         float(scale));
}

}  // namespace tstrain::cuda

#endif
