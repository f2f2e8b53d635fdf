// C = A·B + addend. Where cuBLASLt is there and has an algorithm, it does the work; otherwise the built-in product below,
// one tile of C a block. Each element of C is one sum in the order of k, in one thread's registers, whichever tile it falls
// into: results depend neither on the card nor on how many rows there are.
//
// bfloat16: mma.sync on tiles of 128 × 128 or 64 × 64 by 32 of depth, 4 warps of a quarter each, fp32 accumulators in
// registers (two blocks of up to 255 a processor, or three of up to 168). Operands come to shared memory by cp.async, 3 and
// 4 stages in all (48 and 32 KiB), and to registers by ldmatrix. A tile of 128 does 64 FLOPs for each byte of A and B that
// it reads, and 21 for each byte of shared memory that it writes or reads. Expected, not yet seen on a card: 60–70 % of the
// tensor cores' peak on Ampere and Ada, 40–50 % on Hopper, whose other half only wgmma reaches. Where an operand is not
// aligned to 16 bytes (its address, or the length of its lines) its elements are loaded one by one: expected at a fifth of
// that. A few rows waste most of a tile of 64, and are still bound by reading B.
//
// float32: plain multiply-adds (no TF32), 256 threads with 8 × 8 or 4 × 4 elements of C each, double-buffered tiles of 128
// × 128 by 8 or 64 × 64 by 16 (17 KiB; two blocks of up to 128 registers a thread). Expected, likewise: 70 % of the plain
// peak with tiles of 128.
#ifdef __CUDACC_RTC__
#include "on_card.h"

// Which tile of C this block has. Blocks that run at one time go through 8 rows of tiles, column by column, so that they
// share what they read.
struct Place {
  i64 row, column;
};
template <int kTile>
__device__ inline Place place_of_block(i64 m, i64 n) {
  constexpr i64 kBand = 8;
  i64 down = (m + kTile - 1) / kTile, across = (n + kTile - 1) / kTile;
  i64 top = blockIdx.x / (kBand * across) * kBand, within = blockIdx.x % (kBand * across);
  i64 height = down - top < kBand ? down - top : kBand;
  return {(top + within % height) * kTile, within / height * kTile};
}

// An operand as it lies in memory: `lines` of `length` elements, one after the other. A line is a row of C (or a column)
// with all its depth when `deep`, else one step of depth with all rows.
template <class T>
struct Operand {
  const T* data;
  i64 lines, length;
  bool whole;  // in pieces of 16 bytes

  __device__ Operand(const T* data, i64 rows, i64 depth, bool deep)
      : data(data), lines(deep ? rows : depth), length(deep ? depth : rows) {
    whole = u64(data) % 16 == 0 && length * i64(sizeof(T)) % 16 == 0;
  }
};

// ---- bfloat16 -------------------------------------------------------------------------------------------------

constexpr int kDepth = 32, kThreads = 128;

// A tile of an operand in shared memory: lines as in memory, in chunks of 16 bytes, whose places in a line are swapped
// so that the 8 chunks one ldmatrix reads lie in 8 different sets of banks.
template <int kTile, bool kDeep>
struct Tile {
  static constexpr int kChunks = (kDeep ? kDepth : kTile) / 8;  // of a line

  static __device__ u32 place(u32 line, u32 chunk) {
    u32 swapped = kDeep ? chunk ^ (line / 2 % 4) : chunk ^ (line % 8);
    return (line * kChunks + swapped) * 16;
  }

  // Asks for the elements from `row` and `depth` on. Beyond the operand's end there are zeros.
  static __device__ void fill(u32 tile, const Operand<bf16>& x, i64 row, i64 depth) {
#pragma unroll
    for (int i = 0; i < kTile * kDepth / 8 / kThreads; i++) {
      u32 at = threadIdx.x + i * kThreads, line = at / kChunks, chunk = at % kChunks;
      i64 y = (kDeep ? row : depth) + line, left = x.length - ((kDeep ? depth : row) + chunk * 8);
      if (y >= x.lines) left = 0;
      const bf16* from = x.data + y * x.length + x.length - left;
      u32 to = tile + place(line, chunk);
      if (x.whole) {
        copy_ahead<16>(to, left > 0 ? from : x.data, left > 0 ? 16 : 0);
      } else {
        u32 pairs[4] = {};
#pragma unroll
        for (int e = 0; e < 8; e++)
          if (e < left) pairs[e / 2] |= u32(from[e].bits) << e % 2 * 16;
        asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};"
                     :
                     : "r"(to), "r"(pairs[0]), "r"(pairs[1]), "r"(pairs[2]), "r"(pairs[3])
                     : "memory");
      }
    }
  }

  // 16 rows by 16 of depth, as mma has its first operand. To the second one registers 0 and 2 are 8 of these rows, 1 and
  // 3 the other 8.
  static __device__ void fragment(u32 (&to)[4], u32 tile, int row, int depth) {
    u32 lane = threadIdx.x % 32;
    if (kDeep) load_matrices(to, tile + place(row + lane % 16, depth / 8 + lane / 16));
    else load_matrices_transposed(to, tile + place(depth + lane / 16 * 8 + lane % 8, row / 8 + lane / 8 % 2));
  }
};

// wide: C and the addend are float32, not bfloat16.
template <bool kTransA, bool kTransB, int kTile>
__global__ void __launch_bounds__(kThreads, kTile == 128 ? 2 : 3)
    gemm_bf16(void* c, const bf16* a, const bf16* b, const void* addend, i64 m, i64 n, i64 k, bool wide) {
  using TileA = Tile<kTile, !kTransA>;
  using TileB = Tile<kTile, kTransB>;
  constexpr int kStages = kTile == 128 ? 3 : 4, kBytes = kTile * kDepth * 2, kWarp = kTile / 2;
  __shared__ __align__(128) unsigned char stages[kStages][2][kBytes];
  u32 base = shared_address(stages);
  Operand<bf16> from_a(a, m, k, !kTransA), from_b(b, n, k, kTransB);
  Place place = place_of_block<kTile>(m, n);
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int warp_row = warp / 2 * kWarp, warp_column = warp % 2 * kWarp;

  float sums[kWarp / 16][kWarp / 8][4] = {};
  i64 steps = (k + kDepth - 1) / kDepth;
  for (i64 step = 1 - kStages; step < steps; step++) {
    if (step >= 0) {
      wait_for_groups<kStages - 2>();
      // All threads' parts of this stage are there, and all are done with the one that is filled next.
      __syncthreads();
    }
    i64 ahead = step + kStages - 1;
    if (ahead < steps) {
      u32 stage = base + u32(ahead % kStages) * 2 * kBytes;
      TileA::fill(stage, from_a, place.row, ahead * kDepth);
      TileB::fill(stage + kBytes, from_b, place.column, ahead * kDepth);
    }
    // A group each turn, if of nothing, so that how many are under way is always known.
    end_group();
    if (step < 0) continue;
    u32 stage = base + u32(step % kStages) * 2 * kBytes;
#pragma unroll
    for (int depth = 0; depth < kDepth; depth += 16) {
      u32 fragments_a[kWarp / 16][4], fragments_b[kWarp / 16][4];
#pragma unroll
      for (int i = 0; i < kWarp / 16; i++) {
        TileA::fragment(fragments_a[i], stage, warp_row + i * 16, depth);
        TileB::fragment(fragments_b[i], stage + kBytes, warp_column + i * 16, depth);
      }
#pragma unroll
      for (int i = 0; i < kWarp / 16; i++)
#pragma unroll
        for (int j = 0; j < kWarp / 8; j++)
          multiply(sums[i][j], fragments_a[i], fragments_b[j / 2][j % 2], fragments_b[j / 2][j % 2 + 2]);
    }
  }

  // By way of shared memory, 16 rows of a warp's at a time, so that what a warp writes lies together.
  __syncthreads();
  constexpr int kLine = kWarp + 8;
  float* mine = reinterpret_cast<float*>(stages) + warp * 16 * kLine;
  static_assert(4 * 16 * kLine * sizeof(float) <= sizeof(stages), "");
#pragma unroll
  for (int i = 0; i < kWarp / 16; i++) {
#pragma unroll
    for (int j = 0; j < kWarp / 8; j++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        *reinterpret_cast<float2*>(mine + (half * 8 + lane / 4) * kLine + j * 8 + lane % 4 * 2) =
            float2{sums[i][j][half * 2], sums[i][j][half * 2 + 1]};
    __syncwarp();
#pragma unroll 4
    for (int at = lane; at < 16 * kWarp; at += 32) {
      i64 y = place.row + warp_row + i * 16 + at / kWarp, x = place.column + warp_column + at % kWarp;
      if (y >= m || x >= n) continue;
      float sum = mine[at / kWarp * kLine + at % kWarp];
      i64 to = y * n + x;
      if (wide) {
        if (addend) sum += load(static_cast<const float*>(addend) + to);
        store(static_cast<float*>(c) + to, sum);
      } else {
        if (addend) sum += load(static_cast<const bf16*>(addend) + to);
        store(static_cast<bf16*>(c) + to, sum);
      }
    }
    __syncwarp();
  }
}

// ---- float32 --------------------------------------------------------------------------------------------------

constexpr int kThreadsF32 = 256;

// A tile of an operand: kTile rows by kDepthF32, four elements of memory a thread.
template <int kTile>
struct TileF32 {
  static constexpr int kDepthF32 = 4 * kThreadsF32 / kTile;
  // A line for each step of depth, with room behind it so that threads that store one row's depth hit different banks.
  static constexpr int kLine = kTile + 4;

  static __device__ void fetch(float (&to)[4], const Operand<float>& x, bool deep, i64 row, i64 depth) {
    int quads = (deep ? kDepthF32 : kTile) / 4, line = threadIdx.x / quads, quad = threadIdx.x % quads;
    i64 y = (deep ? row : depth) + line, left = x.length - ((deep ? depth : row) + quad * 4);
    if (y >= x.lines) left = 0;
    const float* from = x.data + y * x.length + x.length - left;
    if (x.whole) {
      float4 four = left > 0 ? *reinterpret_cast<const float4*>(from) : float4{0, 0, 0, 0};
      to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
    } else {
#pragma unroll
      for (int e = 0; e < 4; e++) to[e] = e < left ? from[e] : 0;
    }
  }

  static __device__ void put(float* tile, const float (&x)[4], bool deep) {
    int quads = (deep ? kDepthF32 : kTile) / 4, line = threadIdx.x / quads, quad = threadIdx.x % quads;
    if (deep) {
#pragma unroll
      for (int e = 0; e < 4; e++) tile[(quad * 4 + e) * kLine + line] = x[e];
    } else {
      *reinterpret_cast<float4*>(tile + line * kLine + quad * 4) = float4{x[0], x[1], x[2], x[3]};
    }
  }
};

template <int kTile>
__global__ void __launch_bounds__(kThreadsF32, 2)
    gemm_f32(float* c, const float* a, const float* b, const float* addend, i64 m, i64 n, i64 k, bool trans_a,
             bool trans_b) {
  using T = TileF32<kTile>;
  // A thread's rows are four together in each 64, and so are its columns.
  constexpr int kFours = kTile / 64;
  __shared__ __align__(16) float tiles[2][2][T::kDepthF32 * T::kLine];
  Operand<float> from_a(a, m, k, !trans_a), from_b(b, n, k, trans_b);
  Place place = place_of_block<kTile>(m, n);
  i64 row = place.row, column = place.column;
  int y0 = threadIdx.x / 16 * 4, x0 = threadIdx.x % 16 * 4;

  float next_a[4], next_b[4];
  auto fetch = [&](i64 depth) {
    T::fetch(next_a, from_a, !trans_a, row, depth);
    T::fetch(next_b, from_b, trans_b, column, depth);
  };
  auto put = [&](int buffer) {
    T::put(tiles[buffer][0], next_a, !trans_a);
    T::put(tiles[buffer][1], next_b, trans_b);
  };

  float sums[kFours * 4][kFours * 4] = {};
  fetch(0);
  put(0);
  __syncthreads();
  int buffer = 0;
  for (i64 depth = 0; depth < k; depth += T::kDepthF32, buffer ^= 1) {
    bool more = depth + T::kDepthF32 < k;
    if (more) fetch(depth + T::kDepthF32);
    const float *tile_a = tiles[buffer][0] + y0, *tile_b = tiles[buffer][1] + x0;
#pragma unroll 2
    for (int p = 0; p < T::kDepthF32; p++) {
      float ya[kFours * 4], xb[kFours * 4];
#pragma unroll
      for (int f = 0; f < kFours; f++) {
        float4 fa = *reinterpret_cast<const float4*>(tile_a + p * T::kLine + f * 64);
        float4 fb = *reinterpret_cast<const float4*>(tile_b + p * T::kLine + f * 64);
        ya[f * 4] = fa.x, ya[f * 4 + 1] = fa.y, ya[f * 4 + 2] = fa.z, ya[f * 4 + 3] = fa.w;
        xb[f * 4] = fb.x, xb[f * 4 + 1] = fb.y, xb[f * 4 + 2] = fb.z, xb[f * 4 + 3] = fb.w;
      }
#pragma unroll
      for (int i = 0; i < kFours * 4; i++)
#pragma unroll
        for (int j = 0; j < kFours * 4; j++) sums[i][j] = fmaf(ya[i], xb[j], sums[i][j]);
    }
    // The other buffer was read before the last barrier.
    if (more) put(buffer ^ 1);
    __syncthreads();
  }

#pragma unroll
  for (int i = 0; i < kFours * 4; i++) {
    i64 y = row + i / 4 * 64 + y0 + i % 4;
    if (y >= m) continue;
    i64 line = y * n + column + x0;
#pragma unroll
    for (int j = 0; j < kFours * 4; j++) {
      i64 to = line + j / 4 * 64 + j % 4;
      if (to < (y + 1) * n) c[to] = addend ? addend[to] + sums[i][j] : sums[i][j];
    }
  }
}

KERNELS(gemm_bf16<false, false, 64>, gemm_bf16<false, true, 64>, gemm_bf16<true, false, 64>, gemm_bf16<true, true, 64>,
        gemm_bf16<false, false, 128>, gemm_bf16<false, true, 128>, gemm_bf16<true, false, 128>,
        gemm_bf16<true, true, 128>, gemm_f32<64>, gemm_f32<128>)

#else
#include <cstdio>

#include "card.h"
#include "launch.h"
#include "products.h"

namespace tstrain::cuda {

void gemm(const Context& context, Out c, In a, In b, In addend, i64 m, i64 n, i64 k, bool trans_a, bool trans_b) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    auto to = reinterpret_cast<CUdeviceptr>(c.data), from = reinterpret_cast<CUdeviceptr>(addend.data);
    auto bytes = size_t(m * n * size_of(c.dtype));
    auto stream = static_cast<CUstream>(context.stream);
    if (!addend) check(driver().cuMemsetD8Async(to, 0, bytes, stream), "filling C with zeros");
    else if (from != to) check(driver().cuMemcpyDtoDAsync_v2(to, from, bytes, stream), "copying what is added");
    return;
  }
  if (cublaslt_gemm(context, c, a, b, addend, m, n, k, trans_a, trans_b)) return;
  // Large tiles where there are enough of them for a large card.
  auto tiles = [&](i64 tile) { return (m + tile - 1) / tile * ((n + tile - 1) / tile); };
  int tile = tiles(128) >= 128 ? 128 : 64;
  Grid grid(tiles(tile));
  char name[32];
  if (a.dtype == DType::f32) {
    std::snprintf(name, sizeof name, "gemm_f32<%d>", tile);
    launch(context, kernel(name), grid.with_threads(256), c.data, a.data, b.data, addend.data, m, n, k, trans_a,
           trans_b);
  } else {
    auto word = [](bool transposed) { return transposed ? "true" : "false"; };
    std::snprintf(name, sizeof name, "gemm_bf16<%s,%s,%d>", word(trans_a), word(trans_b), tile);
    launch(context, kernel(name), grid.with_threads(128), c.data, a.data, b.data, addend.data, m, n, k,
           c.dtype == DType::f32);
  }
}

}  // namespace tstrain::cuda

#endif
