// How a card spreads matrices over the registers of a warp, each way alone, for fragments.cpp to compare with what NVIDIA
// documents and the kernels of engine/native/cuda rely on. One warp each.
#include "on_card.h"

// Four matrices of 8 rows of 8 from shared memory, where they stand end to end, to four registers of each thread.
template <bool transposed>
__global__ void load_matrices(u32* registers, const u16* matrices) {
  __shared__ __align__(16) u16 tile[4 * 64];
  for (int i = threadIdx.x; i < 4 * 64; i += 32) tile[i] = matrices[i];
  __syncthreads();
  // Thread 8·j + i names row i of matrix j.
  u32 row = u32(__cvta_generic_to_shared(tile + 8 * threadIdx.x));
  u32 r[4];
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
  for (int j = 0; j < 4; j++) registers[4 * threadIdx.x + j] = r[j];
}

// c += a·b by registers that each thread brings and takes as they are: 4 of a (16 × 16 bfloat16), 2 of b (16 × 8), 4 of c
// (16 × 8 float).
__global__ void multiply(float* c, const u32* a, const u32* b) {
  a += 4 * threadIdx.x;
  b += 2 * threadIdx.x;
  c += 4 * threadIdx.x;
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// 16 bytes a thread to shared memory beside the registers, of which only the first 4·(thread % 5) are read: the rest
// becomes zero.
__global__ void copy_in_part(u32* to, const u32* from) {
  __shared__ __align__(16) u32 tile[4 * 32];
  u32 at = u32(__cvta_generic_to_shared(tile + 4 * threadIdx.x));
  for (int i = 0; i < 4; i++) tile[4 * threadIdx.x + i] = 0xdeadbeef;
  __syncthreads();
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from + 4 * threadIdx.x),
               "r"(4 * (threadIdx.x % 5))
               : "memory");
  asm volatile("cp.async.commit_group;" ::: "memory");
  asm volatile("cp.async.wait_group 0;" ::: "memory");
  __syncthreads();
  for (int i = 0; i < 4; i++) to[4 * threadIdx.x + i] = tile[4 * threadIdx.x + i];
}

KERNELS(load_matrices<false>, load_matrices<true>, multiply, copy_in_part)
