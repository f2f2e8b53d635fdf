// What kernels are written with: the card's half of a .cu file. NVRTC compiles it, any version from 11.8 on, so nothing
// here includes a header of CUDA's or of the standard library.
//
// A .cu file lists its kernels once, KERNELS(rope<float>, rope<bf16>): NVRTC makes these of the templates, and
// launch.h's kernel("rope", {dtype}) finds them. Parameters of kernels are pointers, i64, float, double, bool and Four.
#pragma once

#define KERNELS(...)

using i16 = short;
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

// The sizes of four axes, or a stride in elements along each, as the host's Four has them.
struct Four {
  i64 at[4];
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
// Two that lie beside each other, low and high.
__device__ inline u32 rounded(float low, float high) {
  u32 both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

// A float as a bfloat16 and what that leaves of its pattern, as the op table says it.
__device__ inline bool is_nan(u32 bits) { return (bits & 0x7fffffffu) > 0x7f800000u; }
__device__ inline float joined(bf16 high, i16 low) { return __uint_as_float((u32(high.bits) << 16) + u32(i32(low))); }
__device__ inline bf16 high_of(float x) {
  u32 bits = __float_as_uint(x);
  return {u16(is_nan(bits) ? bits >> 16 | 0x40 : (bits + 0x8000u) >> 16)};
}
__device__ inline i16 low_of(float x) {
  u32 bits = __float_as_uint(x);
  return i16(is_nan(bits) ? 0 : bits);
}

#define kInfinity __int_as_float(0x7f800000)

// This thread among all of a grid in x, and how many there are: for (i64 i = first(); i < n; i += all()) …
__device__ inline i64 first() { return i64(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline i64 all() { return i64(gridDim.x) * blockDim.x; }

// i / n and what is left. A card divides 32 bits several times as fast as 64, and most sizes fit.
struct Quotient {
  i64 whole, rest;
};
__device__ inline Quotient divided(i64 i, i64 n) {
  if (((i | n) >> 32) == 0) return {u32(i) / u32(n), u32(i) % u32(n)};
  return {i / n, i % n};
}

// Where the i-th element of a shape stands along its axes, and where that is by strides.
__device__ inline Four index_in(const Four& shape, i64 i) {
  Quotient a = divided(i, shape.at[3]), b = divided(a.whole, shape.at[2]), c = divided(b.whole, shape.at[1]);
  return {c.whole, c.rest, b.rest, a.rest};
}
__device__ inline i64 offset(const Four& index, const Four& strides) {
  return index.at[0] * strides.at[0] + index.at[1] * strides.at[1] + index.at[2] * strides.at[2] +
         index.at[3] * strides.at[3];
}

// ---- Several elements at a time ---------------------------------------------------------------------------------
//
// Memory is read at full speed 16 bytes an instruction, which wants addresses that are multiples of 16. Nothing promises
// them, so a kernel has two ways: whole vectors where addresses and strides allow it, else single elements.

// What one instruction moves.
template <int bytes>
struct Word;
template <>
struct Word<1> {
  using type = u8;
};
template <>
struct Word<2> {
  using type = u16;
};
template <>
struct Word<4> {
  using type = u32;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<16> {
  using type = uint4;
};

template <class T, int N>
union Vector {
  typename Word<N* int(sizeof(T))>::type word;
  T at[N];
};

// How many elements of each of these types are moved together: 16 bytes of the largest. (A function: variables of a
// template get names in the PTX that no two compilations share.)
template <class... T>
constexpr int lanes_of() {
  int largest = 0;
  ((largest = int(sizeof(T)) > largest ? int(sizeof(T)) : largest), ...);
  return 16 / largest;
}

// Whether N elements from each of these on can be moved at once, and those any multiple of N further.
template <int N, class... T>
__device__ inline bool aligned(const T*... p) {
  return (... && (reinterpret_cast<u64>(p) % (N * sizeof(T)) == 0));
}

// N elements from p on, as they are. kWide: p is aligned. Else those `left` that there are, one by one, and zeros; threads
// get the same elements either way, so that sums over a row do not depend on where it lies in memory.
template <int N, bool kWide = true, class T>
__device__ inline Vector<T, N> take(const T* p, i64 left = N) {
  Vector<T, N> v;
  if constexpr (kWide) v.word = *reinterpret_cast<const decltype(v.word)*>(p);
  else
    for (int j = 0; j < N; j++) v.at[j] = j < left ? p[j] : T();
  return v;
}

template <bool kWide = true, int N, class T>
__device__ inline void put(T* p, const Vector<T, N>& v, i64 left = N) {
  if constexpr (kWide) *reinterpret_cast<decltype(v.word)*>(p) = v.word;
  else
    for (int j = 0; j < N; j++)
      if (j < left) p[j] = v.at[j];
}

// As floats, and back: of bfloat16 two are rounded by one instruction.
template <class T, int N>
__device__ inline void unpack(float (&x)[N], const Vector<T, N>& v) {
  for (int j = 0; j < N; j++) x[j] = load(v.at + j);
}

template <class T, int N>
__device__ inline Vector<T, N> pack(const float (&x)[N]) {
  Vector<T, N> v;
  for (int j = 0; j < N; j++) store(v.at + j, x[j]);
  return v;
}
template <>
__device__ inline Vector<bf16, 8> pack(const float (&x)[8]) {
  Vector<bf16, 8> v;
  v.word = {rounded(x[0], x[1]), rounded(x[2], x[3]), rounded(x[4], x[5]), rounded(x[6], x[7])};
  return v;
}
template <>
__device__ inline Vector<bf16, 4> pack(const float (&x)[4]) {
  Vector<bf16, 4> v;
  v.word = {rounded(x[0], x[1]), rounded(x[2], x[3])};
  return v;
}

template <bool kWide = true, int N, class T>
__device__ inline void load(float (&x)[N], const T* p, i64 left = N) {
  unpack(x, take<N, kWide>(p, left));
}

template <bool kWide = true, int N, class T>
__device__ inline void store(T* p, const float (&x)[N], i64 left = N) {
  put<kWide>(p, pack<T>(x), left);
}

// Calls f(i, Lanes<N>()) for each N elements from i on, where `wide`, and f(i, Lanes<1>()) for those that are left.
template <int N>
struct Lanes {
  static constexpr int count = N;
};
template <int N, class F>
__device__ inline void each(i64 n, bool wide, F f) {
  i64 done = wide ? n / N * N : 0;
  for (i64 i = first() * N; i < done; i += all() * N) f(i, Lanes<N>());
  for (i64 i = done + first(); i < n; i += all()) f(i, Lanes<1>());
}

// ---- Random numbers ---------------------------------------------------------------------------------------------

// Those of cpu/random.h. SplitMix64's output function: a bijection that spreads every input bit.
__device__ inline u64 mix(u64 x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}
__device__ inline u64 stream_of(u64 seed, u64 stream) { return mix(mix(seed + 0x9e3779b97f4a7c15ull) + stream); }
// The place-th number of a stream.
__device__ inline u64 number_at(u64 stream, u64 place) { return mix(stream + place * 0x9e3779b97f4a7c15ull); }

// ---- Together ---------------------------------------------------------------------------------------------------

constexpr u32 kWholeWarp = 0xffffffff;

// Of the 32 threads of a warp, the same in each, in one fixed order.
template <class T, class F>
__device__ inline T warp_reduce(T x, F f) {
  for (int distance = 16; distance > 0; distance /= 2) x = f(x, __shfl_xor_sync(kWholeWarp, x, distance));
  return x;
}

template <class T>
__device__ inline T warp_sum(T x) {
  return warp_reduce(x, [](T a, T b) { return a + b; });
}

// A value that is not a number is passed over.
__device__ inline float warp_max(float x) {
  return warp_reduce(x, [](float a, float b) { return fmaxf(a, b); });
}

// Of all threads of a block, whole warps, likewise. All of them take part.
template <class T, class F>
__device__ inline T block_reduce(T x, F f) {
  __shared__ T parts[32];
  x = warp_reduce(x, f);
  if (blockDim.x == 32) return x;
  __syncthreads();  // someone may still be reading what stood there before
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  x = parts[0];
  for (int warp = 1; warp < blockDim.x / 32; warp++) x = f(x, parts[warp]);
  return x;
}

template <class T>
__device__ inline T block_sum(T x) {
  return block_reduce(x, [](T a, T b) { return a + b; });
}

__device__ inline float block_max(float x) {
  return block_reduce(x, [](float a, float b) { return fmaxf(a, b); });
}

// ---- Tensor cores -----------------------------------------------------------------------------------------------
//
// From compute capability 8.0 on. Matrices of bfloat16 come to shared memory while others are multiplied, and from there
// to registers, which hold 8 × 8 of one a warp: lane l has elements 2·(l % 4) and the next of line l / 4.

__device__ inline u32 shared_address(const void* p) {
  u64 address;
  asm("cvta.to.shared.u64 %0, %1;" : "=l"(address) : "l"(p));
  return u32(address);
}

// Asks for `bytes` to be put into shared memory: the first `there` from global memory, for the rest zeros. `from` is an
// address even where none are.
template <int bytes>
__device__ inline void copy_ahead(u32 to, const void* from, int there) {
  if constexpr (bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" : : "r"(to), "l"(from), "r"(there) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;"
                 :
                 : "r"(to), "l"(from), "r"(there), "n"(bytes)
                 : "memory");
}
// What this thread has asked for since it last said so is a group, if of nothing.
__device__ inline void end_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits for all groups of this thread but the last `pending`.
template <int pending>
__device__ inline void wait_for_groups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// Four matrices of 8 × 8: lane l says where line l % 8 of number l / 8 is.
__device__ inline void load_matrices(u32 (&to)[4], u32 line) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(line)
               : "memory");
}
__device__ inline void load_matrices_transposed(u32 (&to)[4], u32 line) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(line)
               : "memory");
}

// c += a·b for 16 × 8 elements of c and 16 of depth.
__device__ inline void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---- Softmax ----------------------------------------------------------------------------------------------------

// eˣ of a softmax: 0 where it is below the range of normal floats, as on the CPU.
__device__ inline float exp_or_0(float x) { return x < -87.33f ? 0.f : expf(x); }

// The largest of the values added and Σ exp(value − top), in one reading. A value that is not a number makes sum one.
struct Exponentials {
  float top = -kInfinity, sum = 0;

  // The first `left` of these.
  template <int N>
  __device__ void add(const float (&v)[N], i64 left) {
    float higher = top;
    for (int j = 0; j < N; j++) higher = j < left ? fmaxf(higher, v[j]) : higher;
    sum *= moved(top, higher);
    top = higher;
    for (int j = 0; j < N; j++)
      if (j < left) sum += moved(v[j], top);
  }

  // What the threads of a block have, in each of them.
  __device__ void together() {
    float highest = block_max(top);
    sum = block_sum(sum * moved(top, highest));
    top = highest;
  }

 private:
  // exp(from − to), 0 from −∞ even to there.
  __device__ static float moved(float from, float to) { return from == -kInfinity ? 0.f : exp_or_0(from - to); }
};
