// Causal attention over documents by tensor cores, after FlashAttention-2 (arXiv 2307.08691): bfloat16 of head_dim D 64, 80,
// 96 or 128, with float32 sums. Scores are in registers alone; forward leaves their log-sum-exp, from which backward makes
// the probabilities again.
//
// In each of three kernels a block of 4 warps has rows of its own in shared memory, 16 or 32 a warp, and goes over those of
// the other side, which come by cp.async 32 at a time: two stages, one barrier a stage. What mma leaves of one product,
// rounded to bfloat16, is how it takes the next one's first operand, so nothing but operands is in shared memory. A warp
// leaves out tiles that none of its rows has to do with.
//
//              own rows         products  registers a thread  shared memory, KiB   FLOPs for a byte of the other side,
//              D 64  80  96 128           64   80   96  128   64   80   96  128    and of shared memory
//   forward      128 everywhere        2  166  190  212  252   36   44   52   68   128                  21
//   keys        128  64  64  64        4  252  201  208  240   55   45   53   69   128 (D 64: 256)      13 (21)
//   queries     128 128  64  64        3  202  229  152  168   54   66   52   68    96 (64, 80: 192)    12 (19)
//
// Registers are the most on six architectures. They let two blocks share a multiprocessor, or three up to 168; with 100 KiB
// of shared memory (sm_86, 89, 120) one, where it takes more than 49.
//
// Backward does 7 products where 5 would do: the queries' kernel makes scores and dp again, so that dq too has one writer
// and one order. That is 2·T²·D FLOPs more for a head of a document of T tokens. The other deterministic way, blocks of 64
// keys that one after the other add to dq in memory, reads and writes T²·D / 16 bytes: 32 FLOPs a byte, which tensor cores
// do in less time than memory takes, and such blocks must wait for each other.
//
// Expected, not yet seen on a card: shared memory (128 bytes a clock) is a bound of 64 % of the tensor cores' peak on Hopper
// for forward and 38 % for backward of D 128, none and 80 % on Ampere. Beside mma a score takes an exponential and some 5 +
// D / 32 other instructions, a fourth of the time of its mma on Ampere and half on Hopper, in part at the same time. So: on
// long documents 50 % of the peak forward on Ampere and 35 % on Hopper, backward 40 % and 23 %, counted by 7 products; two
// thirds of that at 512 tokens, where a quarter of the tiles is cut by the diagonal and warps wait for each other.
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;
// Rows of the other side that come at a time.
constexpr int kColumns = 32;

// How many times 16 rows a warp has for its own: as many as 255 registers and 99 KiB of shared memory allow.
constexpr int kForwardRows = 2;
constexpr int key_rows(int dim) { return dim == 64 ? 2 : 1; }
constexpr int query_rows(int dim) { return dim <= 80 ? 2 : 1; }
constexpr int in_block(int rows) { return kWarps * 16 * rows; }

// Bytes of a row in shared memory: an odd number of 16, so that 8 rows that one ldmatrix reads lie in different banks.
constexpr int line(int dim) { return dim * 2 + 16; }

}  // namespace

#ifdef __CUDACC_RTC__
#include "on_card.h"

// The part that a block has: `count` rows of a document stand from `start` on, and those from `first` on are its own. Blocks
// are numbered so that a document's first one follows from its start alone, start / kTile + document: there are as many
// numbers as it can need, and those it does not need have nothing to do. Heads, which may share what they read, go side by
// side.
template <int kTile>
struct Place {
  int document, start, count, first;
  u32 head;

  __device__ Place(const i32* offsets, i64 documents, i64 heads) {
    int number = blockIdx.x / u32(heads), high = int(documents);
    head = blockIdx.x % u32(heads);
    document = 0;
    while (high - document > 1) {
      int middle = (document + high) / 2;
      if (offsets[middle] / kTile + middle <= number) document = middle;
      else high = middle;
    }
    start = offsets[document];
    count = offsets[document + 1] - start;
    first = (number - start / kTile - document) * kTile;
  }
};

// Asks for kTile rows that are `stride` apart, of which there are `count`; the others are zeros.
template <int kDim, int kTile>
__device__ inline void fill(u32 tile, const bf16* x, i64 stride, int count) {
  constexpr int kChunks = kDim / 8;
#pragma unroll
  for (int at = threadIdx.x; at < kTile * kChunks; at += kThreads) {
    int row = at / kChunks, chunk = at % kChunks;
    copy_ahead<16>(tile + row * line(kDim) + chunk * 16, x + (row < count ? row : 0) * stride + chunk * 8,
                   row < count ? 16 : 0);
  }
}

// What this lane's address of a tile's first 16 rows and 16 columns is; those of others lie at fixed distances.
template <int kDim>
__device__ inline u32 lane_line(u32 tile, int row = 0) {
  u32 lane = threadIdx.x % 32;
  return tile + (row + lane % 16) * line(kDim) + lane / 16 * 16;
}

// What a warp has of a product, [times 16 rows][times 8 columns][4]: a thread has rows lane / 4 and 8 further, and of each
// two columns from lane % 4 · 2 on.

// c += a·bᵀ for rows of two tiles.
template <int kDim, int kRows>
__device__ inline void multiply_rows(float (&c)[kRows][kColumns / 8][4], u32 a, u32 b) {
#pragma unroll 2
  for (int d = 0; d < kDim; d += 16) {
    u32 left[kRows][4];
#pragma unroll
    for (int i = 0; i < kRows; i++) load_matrices(left[i], a + i * 16 * line(kDim) + d * 2);
#pragma unroll
    for (int n = 0; n < kColumns; n += 16) {
      u32 right[4];
      load_matrices(right, b + n * line(kDim) + d * 2);
#pragma unroll
      for (int i = 0; i < kRows; i++) {
        multiply(c[i][n / 8], left[i], right[0], right[2]);
        multiply(c[i][n / 8 + 1], left[i], right[1], right[3]);
      }
    }
  }
}

// c += a·b for the rows of a tile, where a is rounded to bfloat16: what one product leaves in registers is how the next
// takes it.
template <int kDim, int kRows>
__device__ inline void add_weighted(float (&c)[kRows][kDim / 8][4], const float (&a)[kRows][kColumns / 8][4], u32 b) {
#pragma unroll
  for (int n = 0; n < kColumns; n += 16) {
    u32 left[kRows][4];
#pragma unroll
    for (int i = 0; i < kRows; i++)
#pragma unroll
      for (int pair = 0; pair < 4; pair++) {
        const float* two = &a[i][n / 8 + pair / 2][pair % 2 * 2];
        left[i][pair] = rounded(two[0], two[1]);
      }
#pragma unroll
    for (int d = 0; d < kDim; d += 16) {
      u32 right[4];
      load_matrices_transposed(right, b + n * line(kDim) + d * 2);
#pragma unroll
      for (int i = 0; i < kRows; i++) {
        multiply(c[i][d / 8], left[i], right[0], right[1]);
        multiply(c[i][d / 8 + 1], left[i], right[2], right[3]);
      }
    }
  }
}

// A warp's sums, times `scale`, as `count` rows that are `stride` apart: by way of its own rows of a tile, which nobody else
// reads, so that a row's bytes are written together.
template <int kDim, int kRows>
__device__ inline void give_rows(bf16* to, i64 stride, int count, unsigned char* rows,
                                 const float (&sums)[kRows][kDim / 8][4], float scale) {
  constexpr int kChunks = kDim / 8;
  int lane = threadIdx.x % 32;
  __syncwarp();  // others of the warp may still be reading there
#pragma unroll
  for (int i = 0; i < kRows; i++)
#pragma unroll
    for (int n = 0; n < kDim / 8; n++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        *reinterpret_cast<u32*>(rows + (i * 16 + half * 8 + lane / 4) * line(kDim) + n * 16 + lane % 4 * 4) =
            rounded(sums[i][n][half * 2] * scale, sums[i][n][half * 2 + 1] * scale);
  __syncwarp();
  for (int at = lane; at < 16 * kRows * kChunks; at += 32) {
    int row = at / kChunks, chunk = at % kChunks;
    if (row < count)
      *reinterpret_cast<uint4*>(to + row * stride + chunk * 8) =
          *reinterpret_cast<const uint4*>(rows + row * line(kDim) + chunk * 16);
  }
}

// 2ˣ, 0 below the range of normal floats.
__device__ inline float exp2_or_0(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

constexpr float kLog2e = 1.44269504f, kLn2 = 0.693147181f;

extern __shared__ __align__(16) unsigned char tiles[];

template <int kDim>
__global__ void __launch_bounds__(kThreads, 2)
    flash_forward(bf16* out, float* lse, const bf16* q, const bf16* k, const bf16* v, const i32* q_offsets,
                  const i32* k_starts, const i32* k_lengths, i64 documents, i64 heads, i64 kv_heads, i64 q_stride,
                  i64 kv_stride, i64 tokens, float scale) {
  constexpr int kRows = kForwardRows, kQueries = in_block(kRows), kStage = 2 * kColumns * line(kDim);
  Place<kQueries> place(q_offsets, documents, heads);
  int first = place.first, count = place.count;
  if (first >= count) return;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, mine = warp * 16 * kRows;
  int past = k_lengths[place.document] - count;
  i64 row = place.start + first;
  // How many keys the last query of the block sees, and of this warp; none where it has no query.
  int seen = min(first + kQueries, count) + past;
  int warp_seen = first + mine < count ? min(first + mine + 16 * kRows, count) + past : 0;
  int kv_head = place.head / u32(heads / kv_heads), keys_start = k_starts[place.document];

  u32 queries = shared_address(tiles), stages = queries + kQueries * line(kDim);
  auto fetch = [&](int key) {
    u32 stage = stages + key / kColumns % 2 * kStage;
    i64 at = (keys_start + key) * kv_stride + kv_head * kDim;
    fill<kDim, kColumns>(stage, k + at, kv_stride, seen - key);
    fill<kDim, kColumns>(stage + kStage / 2, v + at, kv_stride, seen - key);
  };
  fill<kDim, kQueries>(queries, q + row * q_stride + place.head * kDim, q_stride, count - first);
  fetch(0);
  end_group();

  u32 query_lines = lane_line<kDim>(queries, mine);
  float factor = scale * kLog2e;
  float sums[kRows][kDim / 8][4] = {};
  // Of a thread's rows: the largest score, in powers of two, and its part of Σ 2^(score − top).
  float top[kRows][2], total[kRows][2];
#pragma unroll
  for (int i = 0; i < kRows; i++)
    for (int half = 0; half < 2; half++) top[i][half] = -kInfinity, total[i][half] = 0;

  for (int key = 0; key < seen; key += kColumns) {
    wait_for_groups<0>();
    // All threads' parts of this stage are there, and all are done with the other one.
    __syncthreads();
    if (key + kColumns < seen) fetch(key + kColumns);
    end_group();
    if (key >= warp_seen) continue;
    u32 stage = lane_line<kDim>(stages + key / kColumns % 2 * kStage);
    float s[kRows][kColumns / 8][4] = {};
    multiply_rows<kDim>(s, query_lines, stage);
    if (key + kColumns > first + mine + past + 1) {
      int sees = first + mine + lane / 4 + past + 1 - key - lane % 4 * 2;
#pragma unroll
      for (int i = 0; i < kRows; i++)
#pragma unroll
        for (int n = 0; n < kColumns / 8; n++)
#pragma unroll
          for (int e = 0; e < 4; e++)
            if (n * 8 + e % 2 >= sees + i * 16 + e / 2 * 8) s[i][n][e] = -kInfinity;
    }
#pragma unroll
    for (int i = 0; i < kRows; i++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float high = -kInfinity;
#pragma unroll
        for (int n = 0; n < kColumns / 8; n++) high = fmaxf(high, fmaxf(s[i][n][half * 2], s[i][n][half * 2 + 1]));
        high = fmaxf(high, __shfl_xor_sync(kWholeWarp, high, 1));
        high = fmaxf(high, __shfl_xor_sync(kWholeWarp, high, 2));
        float new_top = fmaxf(top[i][half], high * factor), keep = exp2_or_0(top[i][half] - new_top), part = 0;
        top[i][half] = new_top;
#pragma unroll
        for (int n = 0; n < kColumns / 8; n++)
#pragma unroll
          for (int e = 0; e < 2; e++)
            part += s[i][n][half * 2 + e] = exp2_or_0(fmaf(s[i][n][half * 2 + e], factor, -new_top));
        total[i][half] = total[i][half] * keep + part;
#pragma unroll
        for (int n = 0; n < kDim / 8; n++)
#pragma unroll
          for (int e = 0; e < 2; e++) sums[i][n][half * 2 + e] *= keep;
      }
    add_weighted<kDim>(sums, s, stage + kStage / 2);
  }

#pragma unroll
  for (int i = 0; i < kRows; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float sum = total[i][half];
      sum += __shfl_xor_sync(kWholeWarp, sum, 1);
      sum += __shfl_xor_sync(kWholeWarp, sum, 2);
      float share = 1.f / sum;
#pragma unroll
      for (int n = 0; n < kDim / 8; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) sums[i][n][half * 2 + e] *= share;
      int y = mine + i * 16 + half * 8 + lane / 4;
      if (lse && lane % 4 == 0 && first + y < count)
        lse[place.head * tokens + row + y] = top[i][half] * kLn2 + logf(sum);
    }
  give_rows<kDim>(out + ((row + mine) * heads + place.head) * kDim, heads * kDim, count - first - mine,
                  tiles + mine * line(kDim), sums, 1);
}

// dk and dv of a block's keys: Σ dsᵀ·q and Σ pᵀ·dout over the queries that see them, of all heads that share the keys.
template <int kDim>
__global__ void __launch_bounds__(kThreads, 2)
    flash_backward_keys(bf16* dqkv, const bf16* dout, const float* lse, const float* delta, const bf16* qkv,
                        const i32* offsets, i64 documents, i64 heads, i64 kv_heads, i64 tokens, float scale) {
  constexpr int kRows = key_rows(kDim), kKeys = in_block(kRows), kTile = kColumns * line(kDim);
  constexpr int kStage = 2 * kTile + 2 * kColumns * int(sizeof(float));
  Place<kKeys> place(offsets, documents, kv_heads);
  int first = place.first, count = place.count;
  if (first >= count) return;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, mine = warp * 16 * kRows;
  i64 stride = (heads + 2 * kv_heads) * kDim, start = place.start;
  i64 k_at = (start + first) * stride + (heads + place.head) * kDim, v_at = k_at + kv_heads * kDim;

  u32 keys = shared_address(tiles), values = keys + kKeys * line(kDim), stages = values + kKeys * line(kDim);
  // Head by head, from the first query on that sees a key of the block: which has the number of that key.
  int group = int(heads / kv_heads), per_head = (count - first + kColumns - 1) / kColumns, steps = group * per_head;
  auto fetch = [&](int step) {
    u32 stage = stages + step % 2 * kStage;
    i64 head = place.head * group + step / per_head;
    int query = first + step % per_head * kColumns, left = count - query;
    i64 row = start + query;
    fill<kDim, kColumns>(stage, qkv + row * stride + head * kDim, stride, left);
    fill<kDim, kColumns>(stage + kTile, dout + (row * heads + head) * kDim, heads * kDim, left);
    int i = threadIdx.x % kColumns;
    const float* from = (threadIdx.x < kColumns ? lse : delta) + head * tokens + row;
    if (threadIdx.x < 2 * kColumns)
      copy_ahead<4>(stage + 2 * kTile + threadIdx.x * 4, i < left ? from + i : from, i < left ? 4 : 0);
  };
  fill<kDim, kKeys>(keys, qkv + k_at, stride, count - first);
  fill<kDim, kKeys>(values, qkv + v_at, stride, count - first);
  fetch(0);
  end_group();

  u32 key_lines = lane_line<kDim>(keys, mine), value_lines = lane_line<kDim>(values, mine);
  float factor = scale * kLog2e;
  float dk[kRows][kDim / 8][4] = {}, dv[kRows][kDim / 8][4] = {};
  for (int step = 0; step < steps; step++) {
    wait_for_groups<0>();
    __syncthreads();
    if (step + 1 < steps) fetch(step + 1);
    end_group();
    // Where these queries stand, counted from the first key of the warp.
    int query = step % per_head * kColumns - mine;
    if (query + kColumns <= 0 || first + mine >= count) continue;
    u32 stage = lane_line<kDim>(stages + step % 2 * kStage);
    const float* of_queries =
        reinterpret_cast<const float*>(tiles + 2 * kKeys * line(kDim) + step % 2 * kStage + 2 * kTile) + lane % 4 * 2;
    float s[kRows][kColumns / 8][4] = {}, ds[kRows][kColumns / 8][4] = {};
    multiply_rows<kDim>(s, key_lines, stage);
#pragma unroll
    for (int n = 0; n < kColumns / 8; n++) {
      float2 log_total = *reinterpret_cast<const float2*>(of_queries + n * 8);
#pragma unroll
      for (int i = 0; i < kRows; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          float p = exp2_or_0(fmaf(s[i][n][e], factor, -kLog2e * (e % 2 ? log_total.y : log_total.x)));
          bool seen = i * 16 + e / 2 * 8 + lane / 4 <= query + n * 8 + lane % 4 * 2 + e % 2;
          s[i][n][e] = seen ? p : 0;
        }
    }
    add_weighted<kDim>(dv, s, stage + kTile);
    multiply_rows<kDim>(ds, value_lines, stage + kTile);
#pragma unroll
    for (int n = 0; n < kColumns / 8; n++) {
      float2 less = *reinterpret_cast<const float2*>(of_queries + kColumns + n * 8);
#pragma unroll
      for (int i = 0; i < kRows; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) ds[i][n][e] = s[i][n][e] * (ds[i][n][e] - (e % 2 ? less.y : less.x));
    }
    add_weighted<kDim>(dk, ds, stage);
  }
  i64 below = mine * stride;
  int left = count - first - mine;
  give_rows<kDim>(dqkv + k_at + below, stride, left, tiles + mine * line(kDim), dk, scale);
  give_rows<kDim>(dqkv + v_at + below, stride, left, tiles + (kKeys + mine) * line(kDim), dv, 1);
}

// dq of a block's queries: Σ ds·k over the keys they see.
template <int kDim>
__global__ void __launch_bounds__(kThreads, 2)
    flash_backward_queries(bf16* dqkv, const bf16* dout, const float* lse, const float* delta, const bf16* qkv,
                           const i32* offsets, i64 documents, i64 heads, i64 kv_heads, i64 tokens, float scale) {
  constexpr int kRows = query_rows(kDim), kQueries = in_block(kRows), kStage = 2 * kColumns * line(kDim);
  Place<kQueries> place(offsets, documents, heads);
  int first = place.first, count = place.count;
  if (first >= count) return;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, mine = warp * 16 * kRows;
  int seen = min(first + kQueries, count), warp_seen = first + mine < count ? min(first + mine + 16 * kRows, count) : 0;
  i64 stride = (heads + 2 * kv_heads) * kDim, row = place.start + first;
  const bf16* k = qkv + place.start * stride + (heads + place.head / u32(heads / kv_heads)) * kDim;

  u32 queries = shared_address(tiles), gradients = queries + kQueries * line(kDim);
  u32 stages = gradients + kQueries * line(kDim);
  auto fetch = [&](int key) {
    u32 stage = stages + key / kColumns % 2 * kStage;
    const bf16* from = k + key * stride;
    fill<kDim, kColumns>(stage, from, stride, seen - key);
    fill<kDim, kColumns>(stage + kStage / 2, from + kv_heads * kDim, stride, seen - key);
  };
  fill<kDim, kQueries>(queries, qkv + row * stride + place.head * kDim, stride, count - first);
  fill<kDim, kQueries>(gradients, dout + (row * heads + place.head) * kDim, heads * kDim, count - first);
  fetch(0);
  end_group();

  float log_total[kRows][2], less[kRows][2];
#pragma unroll
  for (int i = 0; i < kRows; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int y = mine + i * 16 + half * 8 + lane / 4;
      i64 at = place.head * tokens + row + y;
      log_total[i][half] = first + y < count ? lse[at] * kLog2e : 0;
      less[i][half] = first + y < count ? delta[at] : 0;
    }

  u32 query_lines = lane_line<kDim>(queries, mine), gradient_lines = lane_line<kDim>(gradients, mine);
  float factor = scale * kLog2e;
  float dq[kRows][kDim / 8][4] = {};
  for (int key = 0; key < seen; key += kColumns) {
    wait_for_groups<0>();
    __syncthreads();
    if (key + kColumns < seen) fetch(key + kColumns);
    end_group();
    if (key >= warp_seen) continue;
    u32 stage = lane_line<kDim>(stages + key / kColumns % 2 * kStage);
    float s[kRows][kColumns / 8][4] = {}, ds[kRows][kColumns / 8][4] = {};
    multiply_rows<kDim>(s, query_lines, stage);
    multiply_rows<kDim>(ds, gradient_lines, stage + kStage / 2);
#pragma unroll
    for (int i = 0; i < kRows; i++)
#pragma unroll
      for (int n = 0; n < kColumns / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          float p = exp2_or_0(fmaf(s[i][n][e], factor, -log_total[i][e / 2]));
          bool sees = key + n * 8 + lane % 4 * 2 + e % 2 <= first + mine + i * 16 + e / 2 * 8 + lane / 4;
          ds[i][n][e] = sees ? p * (ds[i][n][e] - less[i][e / 2]) : 0;
        }
    add_weighted<kDim>(dq, ds, stage);
  }
  give_rows<kDim>(dqkv + (row + mine) * stride + place.head * kDim, stride, count - first - mine,
                  tiles + mine * line(kDim), dq, scale);
}

KERNELS(flash_forward<64>, flash_forward<80>, flash_forward<96>, flash_forward<128>, flash_backward_keys<64>,
        flash_backward_keys<80>, flash_backward_keys<96>, flash_backward_keys<128>, flash_backward_queries<64>,
        flash_backward_queries<80>, flash_backward_queries<96>, flash_backward_queries<128>)

#else
#include "flash_attention.h"

namespace tstrain::cuda {

namespace {

// Of a size, or an address, in bytes: whether pieces of 16 can be had.
bool whole(i64 bytes) { return bytes % 16 == 0; }
bool whole(const void* address) { return reinterpret_cast<std::uintptr_t>(address) % 16 == 0; }

// The kernels of a head_dim, by names that no launch has to put together.
struct OfSize {
  i64 head_dim;
  const char *forward, *backward_keys, *backward_queries;
};
#define OF_SIZE(dim) \
  {dim, "flash_forward<" #dim ">", "flash_backward_keys<" #dim ">", "flash_backward_queries<" #dim ">"}
constexpr OfSize kSizes[] = {OF_SIZE(64), OF_SIZE(80), OF_SIZE(96), OF_SIZE(128)};
#undef OF_SIZE

// Null where there are none. Scores are compared before they are scaled, which must not turn them around.
const OfSize* made_for(DType type, i64 head_dim, f64 scale) {
  if (type != DType::bf16 || !(scale > 0)) return nullptr;
  for (auto& size : kSizes)
    if (size.head_dim == head_dim) return &size;
  return nullptr;
}

// Blocks of in_block(rows) rows for all documents and so many heads (Place says why so many), which keep `kept` tiles of
// their own and two stages of two of the other side's, with so many bytes beside each stage.
Grid blocks(i64 tokens, i64 documents, i64 heads, i64 head_dim, int rows, int kept, int beside = 0) {
  int own = in_block(rows);
  return Grid((tokens / own + documents) * heads)
      .with_threads(kThreads)
      .with_shared((kept * own + 4 * kColumns) * line(int(head_dim)) + 2 * beside);
}

}  // namespace

bool flash_forward(const Context& context, Out out, Out lse, In q, In k, In v, In q_offsets, In k_starts, In k_lengths,
                   i64 documents, i64 heads, i64 kv_heads, i64 head_dim, i64 q_stride, i64 kv_stride, i64 tokens,
                   f64 scale) {
  auto* kernels = made_for(q.dtype, head_dim, scale);
  if (!kernels || !whole(out.data) || !whole(q.data) || !whole(k.data) || !whole(v.data) ||
      !whole(q_stride * size_of(q.dtype)) || !whole(kv_stride * size_of(k.dtype)))
    return false;
  launch(context, kernel(kernels->forward), blocks(tokens, documents, heads, head_dim, kForwardRows, 1), out.data,
         lse.data, q.data, k.data, v.data, q_offsets.data, k_starts.data, k_lengths.data, documents, heads, kv_heads,
         q_stride, kv_stride, tokens, float(scale));
  return true;
}

bool flash_backward(const Context& context, Out dqkv, In dout, const float* delta, In lse, In qkv, In offsets,
                    i64 documents, i64 heads, i64 kv_heads, i64 head_dim, i64 tokens, f64 scale) {
  auto* kernels = made_for(qkv.dtype, head_dim, scale);
  if (!kernels || !whole(dqkv.data) || !whole(dout.data) || !whole(qkv.data)) return false;
  launch(context, kernel(kernels->backward_keys),
         blocks(tokens, documents, kv_heads, head_dim, key_rows(int(head_dim)), 2, 2 * kColumns * sizeof(float)),
         dqkv.data, dout.data, lse.data, delta, qkv.data, offsets.data, documents, heads, kv_heads, tokens,
         float(scale));
  launch(context, kernel(kernels->backward_queries),
         blocks(tokens, documents, heads, head_dim, query_rows(int(head_dim)), 2), dqkv.data, dout.data, lse.data,
         delta, qkv.data, offsets.data, documents, heads, kv_heads, tokens, float(scale));
  return true;
}

}  // namespace tstrain::cuda

#endif
