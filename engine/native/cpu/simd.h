// Vectors of the instruction set a file is compiled for, conversions, and an exp that vectorises.
//
// Every kernel file is compiled once per instruction set (see the Makefile), each time in a namespace of its own:
// TSTRAIN_ISA is sse, avx2 or avx512. Loops are written so that the compiler vectorises them; explicit vectors
// appear only where registers must be held across a loop (gemm_tile.h).
#pragma once
#include <omp.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "../ops.h"

namespace tstrain::TSTRAIN_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

// Unaligned on purpose: rows start where head_dim and hidden size put them.
typedef float vfloat __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline vfloat load_vector(const float* p) { return *reinterpret_cast<const vfloat*>(p); }
inline void store_vector(float* p, vfloat v) { *reinterpret_cast<vfloat*>(p) = v; }

typedef std::uint32_t vbits __attribute__((vector_size(kLanes * 4)));
typedef std::uint16_t vbf16 __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));

inline vfloat load_vector(const bf16* p) {
  vbits wide = __builtin_convertvector(*reinterpret_cast<const vbf16*>(p), vbits) << 16;
  return reinterpret_cast<vfloat&>(wide);
}

// rows[i][j] ↔ rows[j][i]: swaps blocks of Size × Size beside the diagonal, then those within them.
template <int Size = kLanes / 2>
inline __attribute__((always_inline)) void transpose(vfloat (&rows)[kLanes]) {
  vbits low, high;
  for (int j = 0; j < kLanes; j++) {
    bool left = (j & Size) == 0;
    low[j] = left ? j : kLanes + j - Size;
    high[j] = left ? j + Size : kLanes + j;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i++)
    if ((i & Size) == 0) {
      vfloat a = rows[i], b = rows[i + Size];
      rows[i] = __builtin_shuffle(a, b, low);
      rows[i + Size] = __builtin_shuffle(a, b, high);
    }
  if constexpr (Size > 1) transpose<Size / 2>(rows);
}

inline i64 round_up(i64 n, i64 to) { return (n + to - 1) / to * to; }

inline float bits_to_float(std::uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

inline std::uint32_t float_to_bits(float f) {
  std::uint32_t bits;
  std::memcpy(&bits, &f, 4);
  return bits;
}

inline float load(const float* p) { return *p; }
inline float load(const bf16* p) { return bits_to_float(std::uint32_t(p->bits) << 16); }
inline void store(float* p, float x) { *p = x; }

// Round to nearest even; a NaN stays a NaN (the carry could otherwise turn it into an infinity).
inline void store(bf16* p, float x) {
  std::uint32_t bits = float_to_bits(x);
  std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  std::uint32_t quiet = (bits >> 16) | 0x40u;
  p->bits = std::uint16_t((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

// eˣ to a few units in the last place in the range of normal floats; 0 below it, as softmax wants. Cody–Waite
// reduction by ln 2 and a degree-6 polynomial. Arguments of a softmax are at most 0; SiLU's sigmoid may ask for large
// ones, which saturate.
inline float exp_float(float x) {
  constexpr float kLog2e = 1.44269504088896341f, kLn2Hi = 0.693359375f, kLn2Lo = -2.12194440e-4f;
  constexpr float kMagic = 12582912.f;  // 1.5·2²³: adding it rounds to an integer
  float clamped = x < -87.33f ? -87.33f : (x > 88.37f ? 88.37f : x);
  float n = (clamped * kLog2e + kMagic) - kMagic;
  float r = clamped - n * kLn2Hi - n * kLn2Lo;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  float scaled = p * bits_to_float(std::uint32_t(int(n) + 127) << 23);
  return x < -87.33f ? 0.f : scaled;
}

// Calls f with a null pointer of the element type, so that a kernel is written once for float32 and bfloat16.
template <class F>
inline void with_float_type(DType t, F&& f) {
  if (t == DType::bf16) f(static_cast<bf16*>(nullptr));
  else f(static_cast<float*>(nullptr));
}

// A thread costs some microseconds to wake; work below this many elements stays on one.
constexpr i64 kParallelFrom = 16384;

}  // namespace tstrain::TSTRAIN_ISA
