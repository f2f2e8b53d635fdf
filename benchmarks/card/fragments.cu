// How a card spreads matrices over the registers of a warp, each way alone, for fragments.cpp to compare with what NVIDIA
// documents and the kernels of engine/native/cuda rely on: by their own functions, one warp each.
#include "on_card.h"

// Four matrices of 8 rows of 8 from shared memory, where they stand end to end, to four registers of each thread.
template <bool transposed>
__global__ void read_matrices(u32* registers, const u16* matrices) {
  __shared__ __align__(16) u16 tile[4 * 64];
  for (int i = threadIdx.x; i < 4 * 64; i += 32) tile[i] = matrices[i];
  __syncthreads();
  // Thread 8·j + i names row i of matrix j.
  u32 row = shared_address(tile + 8 * threadIdx.x), r[4];
  if constexpr (transposed) load_matrices_transposed(r, row);
  else load_matrices(r, row);
  for (int j = 0; j < 4; j++) registers[4 * threadIdx.x + j] = r[j];
}

// c += a·b by registers that each thread brings and takes as they are: 4 of a (16 × 16 bfloat16), 2 of b (16 × 8), 4 of c
// (16 × 8 float).
__global__ void product(float* c, const u32* a, const u32* b) {
  u32 own[4];
  float sums[4];
  for (int i = 0; i < 4; i++) own[i] = a[4 * threadIdx.x + i], sums[i] = c[4 * threadIdx.x + i];
  multiply(sums, own, b[2 * threadIdx.x], b[2 * threadIdx.x + 1]);
  for (int i = 0; i < 4; i++) c[4 * threadIdx.x + i] = sums[i];
}

// 16 bytes a thread to shared memory beside the registers, of which only the first 4·(thread % 5) are read: the rest
// becomes zero.
__global__ void copy_in_part(u32* to, const u32* from) {
  __shared__ __align__(16) u32 tile[4 * 32];
  for (int i = 0; i < 4; i++) tile[4 * threadIdx.x + i] = 0xdeadbeef;
  __syncthreads();
  copy_ahead<16>(shared_address(tile + 4 * threadIdx.x), from + 4 * threadIdx.x, 4 * (threadIdx.x % 5));
  end_group();
  wait_for_groups<0>();
  __syncthreads();
  for (int i = 0; i < 4; i++) to[4 * threadIdx.x + i] = tile[4 * threadIdx.x + i];
}

KERNELS(read_matrices<false>, read_matrices<true>, product, copy_in_part)
