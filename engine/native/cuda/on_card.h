// What kernels are written with: the card's half of a .cu file. NVRTC compiles it, any version from 11.8 on, so nothing
// here includes a header of CUDA's or of the standard library.
//
// A .cu file lists its kernels once, KERNELS(rope<float>, rope<bf16>): NVRTC makes these of the templates, and
// launch.h's kernel("rope", {dtype}) finds them. Parameters of kernels are pointers, i64, float, double and bool.
#pragma once

#define KERNELS(...)

using i32 = int;
using i64 = long long;
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned;
using u64 = unsigned long long;

// Storage only, as on the host: arithmetic happens in float.
struct bf16 {
  u16 bits;
};

__device__ inline float load(const float* p) { return *p; }
__device__ inline float load(const bf16* p) { return __uint_as_float(u32(p->bits) << 16); }
__device__ inline void store(float* p, float x) { *p = x; }
// To nearest, ties to even; a value that is not a number stays one.
__device__ inline bf16 rounded(float x) {
  bf16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
__device__ inline void store(bf16* p, float x) { *p = rounded(x); }

// This thread among all of a grid in x, and how many there are: for (i64 i = first(); i < n; i += all()) …
__device__ inline i64 first() { return i64(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline i64 all() { return i64(gridDim.x) * blockDim.x; }

#define kInfinity __int_as_float(0x7f800000)

constexpr u32 kWholeWarp = 0xffffffff;

// The sum over the 32 threads of a warp, the same in each, in one fixed order.
template <class T>
__device__ inline T warp_sum(T x) {
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(kWholeWarp, x, distance);
  return x;
}

__device__ inline float warp_max(float x) {
  for (int distance = 16; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(kWholeWarp, x, distance));
  return x;
}
