// Kernels with a fault each, and beside some the same without it: faults.cpp.
using u16 = unsigned short;
using u32 = unsigned;

#define KERNEL extern "C" __global__ void

// --- in order

KERNEL add_one(float* y, const float* x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] + 1.f;
}

KERNEL reversed(float* y, const float* x) {
  __shared__ float s[256];
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[255 - threadIdx.x];
}

// --- faults

KERNEL missing_barrier(float* y, const float* x) {
  __shared__ float s[256];
  s[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = s[255 - threadIdx.x];
}

KERNEL missing_second_barrier(float* y, const float* x) {
  __shared__ float s[256];
  float sum = 0;
  for (int k = 0; k < 4; k++) {
    s[threadIdx.x] = x[256 * k + threadIdx.x];
    __syncthreads();
    sum += s[255 - threadIdx.x];
  }
  y[threadIdx.x] = sum;
}

KERNEL missing_warp_barrier(float* y, const float* x) {
  __shared__ float s[32];
  s[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = s[31 - threadIdx.x];
}

KERNEL store_past_end(float* y, const float* x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= n) y[i] = 1.f;
}

KERNEL load_past_end(float* y, const float* x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i + 1];
}

KERNEL load_before_start(float* y, const float* x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i - 1];
}

KERNEL shared_past_end(float* y, const float* x) {
  __shared__ float s[100], after[100];
  if (threadIdx.x < 100) s[threadIdx.x] = after[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  if (threadIdx.x <= 100) y[threadIdx.x] = s[threadIdx.x] + after[threadIdx.x % 100];
}

KERNEL dynamic_shared_past_end(float* y, const float* x) {
  extern __shared__ float dynamic[];
  dynamic[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = dynamic[threadIdx.x];
}

KERNEL unwritten_shared(float* y, const float* x) {
  __shared__ float s[256];
  if (threadIdx.x != 77) s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[255 - threadIdx.x];
}

KERNEL local_past_end(float* y, const float* x, int n) {
  float a[8];
  for (int k = 0; k < 8; k++) a[k] = x[k];
  y[threadIdx.x] = a[n + threadIdx.x];
}

KERNEL misaligned_vector(float* y, const float* x) {
  reinterpret_cast<float4*>(y)[threadIdx.x] = *reinterpret_cast<const float4*>(x + 1 + 4 * threadIdx.x);
}

KERNEL race_between_blocks(float* y, const float* x) { y[threadIdx.x] = x[blockIdx.x]; }

KERNEL reads_another_block(float* y, const float* x) {
  int i = blockIdx.x * blockDim.x + threadIdx.x, n = gridDim.x * blockDim.x;
  y[i] = x[i];
  __syncthreads();
  y[n + i] = y[n - 1 - i];
}

KERNEL parted_barriers(float* y, const float* x) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  if (threadIdx.x < 32) {
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];
  } else {
    y[threadIdx.x] = 0.f;
    __syncthreads();
    y[threadIdx.x] += 2.f * s[63 - threadIdx.x];
  }
}

KERNEL lanes_stay_away(float* y, const float* x) {
  float v = x[threadIdx.x];
  if (threadIdx.x % 32 < 20) v += __shfl_xor_sync(0xffffffff, v, 1);
  __syncthreads();
  y[threadIdx.x] = v;
}

KERNEL lanes_have_ended(float* y, const float* x) {
  if (threadIdx.x == 5) return;
  float v = x[threadIdx.x];
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffff, v, d);
  y[threadIdx.x] = v;
}

KERNEL sum_of_a_warp(float* y, const float* x) {
  float v = x[threadIdx.x];
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffff, v, d);
  y[threadIdx.x] = v;
}

KERNEL half_a_warp(float* y, const float* x) {
  float v = x[threadIdx.x];
  if (threadIdx.x % 32 < 16)
    for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0x0000ffff, v, d);
  y[threadIdx.x] = v;
}

KERNEL largest(float* y, const float* x, int n) {
  float most = 0.f;
  for (int i = 0; i < n; i++) most = fmaxf(most, x[i]);
  *y = most;
}

__device__ inline u32 shared_address(const void* p) { return u32(__cvta_generic_to_shared(p)); }

__device__ inline void copy_async(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
}

KERNEL copy_not_awaited(float* y, const float* x) {
  __shared__ alignas(16) float s[128];
  copy_async(s + 4 * threadIdx.x, x + 4 * threadIdx.x);
  asm volatile("cp.async.commit_group;");
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x];
}

KERNEL copy_over_what_is_read(float* y, const float* x) {
  __shared__ alignas(16) float s[128];
  float sum = 0;
  for (int k = 0; k < 4; k++) {
    copy_async(s + 4 * threadIdx.x, x + 128 * k + 4 * threadIdx.x);
    asm volatile("cp.async.commit_group;");
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    __syncthreads();
    sum += s[127 - threadIdx.x];
  }
  y[threadIdx.x] = sum;
}

// y = a·b of 16×16 and 16×8: the fragments as the manual has them, or with one index wrong.
__device__ inline u32 pair(const u16* p, int step) { return u32(p[0]) | u32(p[step]) << 16; }
__device__ inline void product(float* y, const u16* a, const u16* b, int wrong) {
  int g = threadIdx.x / 4, t = threadIdx.x % 4;
  u32 fa[4], fb[2];
  for (int i = 0; i < 4; i++) fa[i] = pair(a + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8, 1);
  for (int i = 0; i < 2; i++) fb[i] = pair(b + (2 * t + i * 8 + wrong) * 8 + g, 8);
  float d[4] = {};
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[0]), "r"(fb[1]));
  for (int i = 0; i < 4; i++) y[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}
KERNEL right_fragment(float* y, const u16* a, const u16* b) { product(y, a, b, 0); }
KERNEL wrong_fragment(float* y, const u16* a, const u16* b) { product(y, a, b, threadIdx.x % 4 == 3 ? -1 : 0); }
