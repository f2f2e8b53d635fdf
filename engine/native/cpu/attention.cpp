// Causal attention over documents, in the manner of FlashAttention (arXiv 2205.14135, 2307.08691): scores exist one
// tile at a time, forward keeps only the row log-sum-exp, backward makes the probabilities again from it.
//
// One task is one key/value head of one document, with all its query heads: its keys are laid out once, and no two
// tasks write the same gradient, so no result depends on the thread count.
#include <algorithm>

#include "attention_scratch.h"
#include "gemm_tile.h"
#include "kernels.h"

namespace tstrain::TSTRAIN_ISA {

namespace {

constexpr i64 kTile = kAttentionTile;
// Score tiles are as wide as their keys, in steps of the longest vector: short documents do not pay for a whole tile.
constexpr i64 kStep = 16;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// rows × dim of T (row stride `stride`) → float rows of padded length, times scale; the padding is zero.
template <class T>
void widen(float* to, const T* from, i64 stride, i64 rows, i64 dim, i64 padded, float scale) {
  for (i64 r = 0; r < rows; r++) {
#pragma omp simd
    for (i64 i = 0; i < dim; i++) to[r * padded + i] = load(from + r * stride + i) * scale;
    for (i64 i = dim; i < padded; i++) to[r * padded + i] = 0;
  }
}

// The transpose: dim rows of length `columns` (rows of `from` beyond `rows` are zero).
template <class T>
void widen_transposed(float* to, const T* from, i64 stride, i64 rows, i64 dim, i64 columns) {
  for (i64 r0 = 0; r0 < columns; r0 += 16)
    for (i64 i = 0; i < dim; i++)
      for (i64 r = r0; r < r0 + 16; r++) to[i * columns + r] = r < rows ? load(from + r * stride + i) : 0.f;
}

template <class T>
void narrow(T* to, i64 stride, const float* from, i64 rows, i64 dim, i64 padded, float scale) {
  for (i64 r = 0; r < rows; r++)
#pragma omp simd
    for (i64 i = 0; i < dim; i++) store(to + r * stride + i, from[r * padded + i] * scale);
}

struct Carve {
  float* next;
  float* take(i64 floats) {
    float* p = next;
    next += round_up(floats, 16);
    return p;
  }
};

struct Sizes {
  i64 heads, kv_heads, head_dim, padded;
  i64 group() const { return heads / kv_heads; }
};

// One query, as when a text is generated: keys and values are read where they lie, for laying them out would take
// longer than what is done with them.
template <class T>
void forward_one_query(T* out, float* lse, i64 lse_stride, const T* q, const T* k, const T* v, i64 kv_stride, i64 keys,
                       i64 kv_head, const Sizes& z, float scale, float* scratch) {
  i64 d = z.head_dim, at = kv_head * d;
  Carve carve{scratch};
  float *s = carve.take(keys), *qq = carve.take(z.padded), *o = carve.take(z.padded);
  for (i64 head = kv_head * z.group(); head < (kv_head + 1) * z.group(); head++) {
    widen(qq, q + head * d, 0, 1, d, z.padded, scale);
    float top = kMinusInfinity, total = 0;
    for (i64 j = 0; j < keys; j++) {
      const T* key = k + j * kv_stride + at;
      float dot = 0;
#pragma omp simd reduction(+ : dot)
      for (i64 i = 0; i < d; i++) dot += qq[i] * load(key + i);
      s[j] = dot;
      top = dot > top ? dot : top;
    }
#pragma omp simd reduction(+ : total)
    for (i64 j = 0; j < keys; j++) {
      s[j] = exp_float(s[j] - top);
      total += s[j];
    }
    std::memset(o, 0, size_t(d) * sizeof(float));
    for (i64 j = 0; j < keys; j++) {
      const T* value = v + j * kv_stride + at;
      float p = s[j];
#pragma omp simd
      for (i64 i = 0; i < d; i++) o[i] += p * load(value + i);
    }
    narrow(out + head * d, 0, o, 1, d, z.padded, 1.f / total);
    if (lse) lse[head * lse_stride] = top + std::log(total);
  }
}

// One document, one key/value head.
template <class T>
void forward_task(T* out, float* lse, i64 lse_stride, const T* q, const T* k, const T* v, i64 q_stride, i64 kv_stride,
                  i64 queries, i64 keys, i64 kv_head, const Sizes& z, float scale, float* scratch) {
  if (queries == 1)
    return forward_one_query(out, lse, lse_stride, q, k, v, kv_stride, keys, kv_head, z, scale, scratch);
  i64 d = z.head_dim, padded = z.padded, wide = round_up(keys, kStep), shift = keys - queries;
  Carve carve{scratch};
  float *kt = carve.take(d * wide), *vv = carve.take(wide * padded), *qq = carve.take(kTile * padded),
        *s = carve.take(kTile * kTile), *o = carve.take(kTile * padded), *top = carve.take(kTile),
        *total = carve.take(kTile);
  widen_transposed(kt, k + kv_head * d, kv_stride, keys, d, wide);
  widen(vv, v + kv_head * d, kv_stride, keys, d, padded, 1.f);
  for (i64 head = kv_head * z.group(); head < (kv_head + 1) * z.group(); head++) {
    for (i64 i0 = 0; i0 < queries; i0 += kTile) {
      i64 rows = queries - i0 < kTile ? queries - i0 : kTile;
      widen(qq, q + i0 * q_stride + head * d, q_stride, rows, d, padded, scale);
      for (i64 r = 0; r < rows; r++) {
        top[r] = kMinusInfinity;
        total[r] = 0;
      }
      i64 last = i0 + rows + shift;  // one past the last key that the block's last query sees
      for (i64 j0 = 0; j0 < last; j0 += kTile) {
        i64 columns = last - j0 < kTile ? last - j0 : kTile, width = round_up(columns, kStep);
        small_gemm(rows, width, d, qq, padded, 1, kt + j0, wide, s, kTile, false);
        for (i64 r = 0; r < rows; r++) {
          float* row = s + r * kTile;
          i64 seen = i0 + r + shift - j0 + 1;
          if (seen > columns) seen = columns;
          for (i64 j = seen < 0 ? 0 : seen; j < width; j++) row[j] = kMinusInfinity;
          float m = top[r];
#pragma omp simd reduction(max : m)
          for (i64 j = 0; j < width; j++) m = row[j] > m ? row[j] : m;
          float keep = exp_float(top[r] - m), sum = 0;
#pragma omp simd reduction(+ : sum)
          for (i64 j = 0; j < width; j++) {
            row[j] = exp_float(row[j] - m);
            sum += row[j];
          }
          top[r] = m;
          total[r] = total[r] * keep + sum;
          if (j0 > 0 && keep != 1.f)
#pragma omp simd
            for (i64 i = 0; i < padded; i++) o[r * padded + i] *= keep;
        }
        small_gemm(rows, padded, columns, s, kTile, 1, vv + j0 * padded, padded, o, padded, j0 > 0);
      }
      for (i64 r = 0; r < rows; r++) {
        float by = 1.f / total[r];
        narrow(out + (i0 + r) * z.heads * d + head * d, 0, o + r * padded, 1, d, padded, by);
        if (lse) lse[head * lse_stride + i0 + r] = top[r] + std::log(total[r]);
      }
    }
  }
}

template <class T>
void backward_task(T* dqkv, const T* dout, const T* out, const float* lse, i64 lse_stride, const T* qkv, i64 tokens,
                   i64 kv_head, const Sizes& z, float scale, float* scratch) {
  i64 d = z.head_dim, padded = z.padded, wide = round_up(tokens, kStep), stride = (z.heads + 2 * z.kv_heads) * d;
  i64 k_at = (z.heads + kv_head) * d, v_at = (z.heads + z.kv_heads + kv_head) * d;
  Carve carve{scratch};
  float *kt = carve.take(d * wide), *vt = carve.take(d * wide), *kk = carve.take(wide * padded),
        *dk = carve.take(wide * padded), *dv = carve.take(wide * padded), *qq = carve.take(kTile * padded),
        *dd = carve.take(kTile * padded), *dq = carve.take(kTile * padded), *s = carve.take(kTile * kTile),
        *ds = carve.take(kTile * kTile), *delta = carve.take(kTile);
  widen_transposed(kt, qkv + k_at, stride, tokens, d, wide);
  widen_transposed(vt, qkv + v_at, stride, tokens, d, wide);
  widen(kk, qkv + k_at, stride, tokens, d, padded, 1.f);
  std::memset(dk, 0, size_t(wide * padded) * sizeof(float));
  std::memset(dv, 0, size_t(wide * padded) * sizeof(float));
  for (i64 head = kv_head * z.group(); head < (kv_head + 1) * z.group(); head++) {
    for (i64 i0 = 0; i0 < tokens; i0 += kTile) {
      i64 rows = tokens - i0 < kTile ? tokens - i0 : kTile;
      widen(qq, qkv + i0 * stride + head * d, stride, rows, d, padded, scale);
      widen(dd, dout + i0 * z.heads * d + head * d, z.heads * d, rows, d, padded, 1.f);
      for (i64 r = 0; r < rows; r++) {
        const T* o = out + (i0 + r) * z.heads * d + head * d;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (i64 i = 0; i < d; i++) sum += load(o + i) * dd[r * padded + i];
        delta[r] = sum;
      }
      for (i64 j0 = 0; j0 < i0 + rows; j0 += kTile) {
        i64 columns = tokens - j0 < kTile ? tokens - j0 : kTile, width = round_up(columns, kStep);
        small_gemm(rows, width, d, qq, padded, 1, kt + j0, wide, s, kTile, false);
        small_gemm(rows, width, d, dd, padded, 1, vt + j0, wide, ds, kTile, false);
        for (i64 r = 0; r < rows; r++) {
          float *p = s + r * kTile, *dp_row = ds + r * kTile;
          float l = lse[head * lse_stride + i0 + r], del = delta[r];
          i64 seen = i0 + r - j0 + 1;
          if (seen > width) seen = width;
#pragma omp simd
          for (i64 j = 0; j < width; j++) {
            float x = j < seen ? exp_float(p[j] - l) : 0.f;
            p[j] = x;
            dp_row[j] = x * (dp_row[j] - del);
          }
        }
        small_gemm(columns, padded, rows, s, 1, kTile, dd, padded, dv + j0 * padded, padded, true);
        small_gemm(columns, padded, rows, ds, 1, kTile, qq, padded, dk + j0 * padded, padded, true);
        small_gemm(rows, padded, columns, ds, kTile, 1, kk + j0 * padded, padded, dq, padded, j0 > 0);
      }
      narrow(dqkv + i0 * stride + head * d, stride, dq, rows, d, padded, scale);
    }
  }
  narrow(dqkv + k_at, stride, dk, tokens, d, padded, 1.f);
  narrow(dqkv + v_at, stride, dv, tokens, d, padded, 1.f);
}

}  // namespace

void attention_forward(const Context& context, Out out, Out lse, In q, In k, In v, In q_offsets, In k_starts,
                       In k_lengths, i64 documents, i64 heads, i64 kv_heads, i64 head_dim, i64 q_stride, i64 kv_stride,
                       i64 tokens, i64, i64 max_k, f64 pairs, f64 scale) {
  Sizes z{heads, kv_heads, head_dim, round_up(head_dim, kLanes)};
  const auto *qo = q_offsets.as<std::int32_t>(), *starts = k_starts.as<std::int32_t>(),
             *lengths = k_lengths.as<std::int32_t>();
  i64 each = attention_forward_floats(max_k, head_dim);
  with_float_type(q.dtype, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
#pragma omp parallel for schedule(dynamic) if (pairs * f64(heads * head_dim) >= kParallelFrom)
    for (i64 task = 0; task < documents * kv_heads; task++) {
      i64 j = task / kv_heads;
      forward_task(out.as<T>() + qo[j] * heads * head_dim, lse ? lse.as<float>() + qo[j] : nullptr, tokens,
                   q.as<T>() + qo[j] * q_stride, k.as<T>() + starts[j] * kv_stride, v.as<T>() + starts[j] * kv_stride,
                   q_stride, kv_stride, qo[j + 1] - qo[j], lengths[j], task % kv_heads, z, float(scale),
                   static_cast<float*>(context.workspace) + omp_get_thread_num() * each);
    }
  });
}

void attention_backward(const Context& context, Out dqkv, In dout, In out, In lse, In qkv, In offsets, i64 documents,
                        i64 heads, i64 kv_heads, i64 head_dim, i64 tokens, i64 max_tokens, f64, f64 scale) {
  Sizes z{heads, kv_heads, head_dim, round_up(head_dim, kLanes)};
  const auto* at = offsets.as<std::int32_t>();
  i64 each = attention_backward_floats(max_tokens, head_dim), stride = (heads + 2 * kv_heads) * head_dim;
  with_float_type(qkv.dtype, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
#pragma omp parallel for schedule(dynamic) if (tokens * heads * head_dim >= kParallelFrom)
    for (i64 task = 0; task < documents * kv_heads; task++) {
      i64 j = task / kv_heads, row = at[j];
      backward_task(dqkv.as<T>() + row * stride, dout.as<T>() + row * heads * head_dim,
                    out.as<T>() + row * heads * head_dim, lse.as<float>() + row, tokens, qkv.as<T>() + row * stride,
                    at[j + 1] - row, task % kv_heads, z, float(scale),
                    static_cast<float*>(context.workspace) + omp_get_thread_num() * each);
    }
  });
}

}  // namespace tstrain::TSTRAIN_ISA
