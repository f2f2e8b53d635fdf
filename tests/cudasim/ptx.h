// What the translation of a PTX kernel is written with. Each is compiled at run time with this header alone, so it
// includes nothing: g++ spends its time on the kernel.
//
// Addresses: global, const, param and local ones are addresses of this process; a shared one is an offset into the
// block's shared memory, and its generic address is where that lies.
#pragma once

namespace cudasim {

using i8 = signed char;
using i16 = short;
using i32 = int;
using i64 = long long;
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned;
using u64 = unsigned long long;
using u128 = unsigned __int128;

// Local memory (a stack frame of PTX) that a thread has open.
struct Frame {
  u64 start, end;
  const Frame* outer;
};

struct Dim {
  u32 x, y, z;
};

// What a translated kernel sees of the thread it runs as.
struct Thread {
  const char* parameters;
  char* shared;
  const Frame* frame;
  Dim tid, ntid, ctaid, nctaid;
  u32 lane, warp, dynamic_shared_bytes;
  u64 grid;  // its number
};

// The last range of live memory an instruction went to: most keep to one.
struct Range {
  u64 start, end;
};

enum Space : int { kGeneric, kGlobal, kShared, kLocal };
// Strong: as other threads may use it at the same time (volatile, relaxed, acquire, release).
enum Use : int { kRead, kWrite, kAtomic, kStrongRead, kStrongWrite };
enum Shuffle : int { kUp, kDown, kIdx, kBfly };
enum Vote : int { kAll, kAny, kUni, kBallot };
enum Reduce : int { kAdd, kMin, kMax, kMinSigned, kMaxSigned, kAnd, kOr, kXor };

// What the simulator does for a kernel. `site` is the number of a PTX instruction.
struct Runtime {
  void (*access)(Thread*, Space, Use, u64 address, u32 bytes, int site, Range*);
  void (*global_read)(Thread*, u64 address, u32 bytes, int site, Range*);
  void (*global_write)(Thread*, u64 address, u32 bytes, int site, Range*);
  void (*shared_read)(Thread*, u64 address, u32 bytes, int site);
  void (*shared_write)(Thread*, u64 address, u32 bytes, int site);
  void (*barrier)(Thread*, u32 id, u32 threads, bool waits, int site);
  u32 (*barrier_reduce)(Thread*, u32 id, u32 threads, bool value, int site);  // how many gave true
  void (*warp_barrier)(Thread*, u32 mask, int site);
  u32 (*shuffle)(Thread*, Shuffle, u32 value, u32 b, u32 c, u32 mask, bool* in_range, int site);
  u32 (*vote)(Thread*, Vote, bool value, u32 mask, int site);
  u32 (*reduce)(Thread*, Reduce, u32 value, u32 mask, int site);
  u32 (*active)(Thread*);
  void (*mma_bf16)(Thread*, int k, float* d, const u32* a, const u32* b, const float* c, int site);
  void (*ldmatrix)(Thread*, int count, bool transposed, u32* d, u64 address, int site, bool check);
  void (*copy_async)(Thread*, u64 shared, u64 global, u32 bytes, u32 from_bytes, int site, bool check, Range*);
  void (*copy_commit)(Thread*);
  void (*copy_wait)(Thread*, u32 pending);
  void (*copy_wait_all)(Thread*);
  void (*trap)(Thread*, const char* why, int site);
};

// --- bits

template <class To, class From>
inline To as(From x) {
  static_assert(sizeof(To) == sizeof(From), "");
  return __builtin_bit_cast(To, x);
}

template <class T>
inline T get(const void* from) {
  T x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}
template <class T>
inline void put(void* to, T x) {
  __builtin_memcpy(to, &x, sizeof x);
}

template <class T>
inline T shift_left(T x, u32 by) {
  return by >= 8 * sizeof(T) ? T(0) : T(x << by);
}
// Of a signed type the sign moves in.
template <class T>
inline T shift_right(T x, u32 by) {
  if (by >= 8 * sizeof(T)) return x < 0 ? T(-1) : T(0);
  return T(x >> by);
}

inline u32 funnel_left(u32 low, u32 high, u32 by) { return u32(((u64(high) << 32 | low) << by) >> 32); }
inline u32 funnel_right(u32 low, u32 high, u32 by) { return u32((u64(high) << 32 | low) >> by); }

inline u32 lop3(u32 a, u32 b, u32 c, u32 table) {
  u32 x = 0;
  if (table & 1) x |= ~a & ~b & ~c;
  if (table & 2) x |= ~a & ~b & c;
  if (table & 4) x |= ~a & b & ~c;
  if (table & 8) x |= ~a & b & c;
  if (table & 16) x |= a & ~b & ~c;
  if (table & 32) x |= a & ~b & c;
  if (table & 64) x |= a & b & ~c;
  if (table & 128) x |= a & b & c;
  return x;
}

inline u32 permute(u32 a, u32 b, u32 selection) {
  u64 bytes = u64(b) << 32 | a;
  u32 x = 0;
  for (int i = 0; i < 4; i++) {
    u32 s = selection >> 4 * i;
    u8 byte = u8(bytes >> 8 * (s & 7));
    if (s & 8) byte = byte & 0x80 ? 0xff : 0;
    x |= u32(byte) << 8 * i;
  }
  return x;
}

template <class T>
inline T extract(T x, u32 at, u32 length) {
  constexpr u32 bits = 8 * sizeof(T);
  at &= 0xff;
  length &= 0xff;
  bool is_signed = T(-1) < T(0);
  u32 last = at + length - 1 < bits - 1 ? at + length - 1 : bits - 1;
  bool sign = is_signed && length != 0 && (u64(x) >> last & 1);
  u64 y = 0;
  for (u32 i = 0; i < bits; i++) {
    bool bit = i < length && at + i < bits ? u64(x) >> (at + i) & 1 : sign;
    y |= u64(bit) << i;
  }
  return T(y);
}

template <class T>
inline T insert(T from, T into, u32 at, u32 length) {
  constexpr u32 bits = 8 * sizeof(T);
  at &= 0xff;
  length &= 0xff;
  for (u32 i = 0; i < length && at + i < bits; i++)
    into = T((into & ~(T(1) << (at + i))) | ((from >> i & 1) << (at + i)));
  return into;
}

template <class T>
inline T reversed(T x) {
  T y = 0;
  for (u32 i = 0; i < 8 * sizeof(T); i++) y |= T((x >> i & 1) << (8 * sizeof(T) - 1 - i));
  return y;
}

inline u32 leading_zeros(u32 x) { return x ? u32(__builtin_clz(x)) : 32; }
inline u32 leading_zeros(u64 x) { return x ? u32(__builtin_clzll(x)) : 64; }
inline u32 highest_bit(u32 x) { return x ? 31u - u32(__builtin_clz(x)) : ~0u; }
inline u32 highest_bit(u64 x) { return x ? 63u - u32(__builtin_clzll(x)) : ~0u; }
inline u32 highest_bit(i32 x) { return highest_bit(u32(x < 0 ? ~x : x)); }
inline u32 highest_bit(i64 x) { return highest_bit(u64(x < 0 ? ~x : x)); }

// --- integers

// A division by zero is no trap on a card: all bits are set.
template <class T>
inline T divide(T a, T b) {
  if (b == 0) return T(-1);
  if (T(-1) < T(0) && b == T(-1)) return T(0 - u64(a));
  return T(a / b);
}
template <class T>
inline T remainder(T a, T b) {
  if (b == 0) return a;
  if (T(-1) < T(0) && b == T(-1)) return 0;
  return T(a % b);
}

inline i32 multiply_high(i32 a, i32 b) { return i32(i64(a) * b >> 32); }
inline u32 multiply_high(u32 a, u32 b) { return u32(u64(a) * b >> 32); }
inline i64 multiply_high(i64 a, i64 b) { return i64((__int128)a * b >> 64); }
inline u64 multiply_high(u64 a, u64 b) { return u64(u128(a) * b >> 64); }
inline i16 multiply_high(i16 a, i16 b) { return i16(i32(a) * b >> 16); }
inline u16 multiply_high(u16 a, u16 b) { return u16(u32(a) * b >> 16); }

template <class T>
inline T least(T a, T b) {
  return a < b ? a : b;
}
template <class T>
inline T greatest(T a, T b) {
  return a > b ? a : b;
}

// --- floating point

enum Rounding { kNearest, kToZero, kDown_, kUp_ };

inline float quiet(float) { return as<float>(0x7fffffffu); }
inline double quiet(double) { return as<double>(0xfff8000000000000ull); }

// A denormal becomes a zero of its sign.
inline float flushed(float x) {
  u32 bits = as<u32>(x);
  return (bits & 0x7f800000u) == 0 ? as<float>(bits & 0x80000000u) : x;
}
inline float saturated(float x) { return x > 0 ? (x < 1 ? x : 1.f) : 0.f; }
inline double saturated(double x) { return x > 0 ? (x < 1 ? x : 1.) : 0.; }

template <class T>
inline T least_number(T a, T b) {
  if (a != a) return b != b ? quiet(a) : b;
  if (b != b) return a;
  if (a == b) return __builtin_signbit(a) ? a : b;
  return a < b ? a : b;
}
template <class T>
inline T greatest_number(T a, T b) {
  if (a != a) return b != b ? quiet(a) : b;
  if (b != b) return a;
  if (a == b) return __builtin_signbit(a) ? b : a;
  return a > b ? a : b;
}
template <class T>
inline T least_or_nan(T a, T b) {
  return a != a || b != b ? quiet(a) : least_number(a, b);
}
template <class T>
inline T greatest_or_nan(T a, T b) {
  return a != a || b != b ? quiet(a) : greatest_number(a, b);
}

inline float neighbour(float x, bool up) {
  u32 bits = as<u32>(x);
  if ((bits & 0x7fffffffu) == 0) return as<float>(up ? 1u : 0x80000001u);
  return as<float>((bits >> 31 != 0) == up ? bits - 1 : bits + 1);
}

// high + low, which is exact and has |low| within half a unit of high's last place, rounded once.
inline float rounded(double high, double low, Rounding mode) {
  float x = float(high);
  if (!(high - high == 0)) return x;
  bool above = double(x) > high || (double(x) == high && low < 0);
  bool below = double(x) < high || (double(x) == high && low > 0);
  bool infinite = x - x != 0;
  if (mode == kNearest) {
    // Rounded twice only where high lies halfway between two floats.
    if (infinite || low == 0) return x;
    float other = neighbour(x, below);
    if (double(x) - high == high - double(other) && (high > x) == (low > 0)) return other;
    return x;
  }
  bool down = mode == kDown_ || (mode == kToZero && high > 0);
  if (down && above) return neighbour(x, false);
  if (!down && below) return neighbour(x, true);
  return x;
}

inline float fma_rounded(float a, float b, float c, Rounding mode) {
  double product = double(a) * b, sum = product + c;
  if (!(sum - sum == 0)) return float(sum);
  if (sum == 0) return product == 0 && c == 0 ? __builtin_fmaf(a, b, c) : mode == kDown_ ? -0.f : 0.f;
  double part = sum - product;
  double low = (product - (sum - part)) + (double(c) - part);
  return rounded(sum, low, mode);
}
inline float add_rounded(float a, float b, Rounding mode) { return fma_rounded(a, 1.f, b, mode); }
inline float multiply_rounded(float a, float b, Rounding mode) { return rounded(double(a) * b, 0, mode); }

// The exact remainder says on which side a rounded quotient or root lies.
inline float divide_rounded(float a, float b, Rounding mode) {
  double q = double(a) / b;
  if (!(q - q == 0) || b == 0) return float(q);
  double rest = __builtin_fma(-q, double(b), double(a));
  return rounded(q, b < 0 ? -rest : rest, mode);
}
inline float root_rounded(float a, Rounding mode) {
  double q = __builtin_sqrt(double(a));
  if (!(q - q == 0)) return float(q);
  return rounded(q, __builtin_fma(-q, q, double(a)), mode);
}

inline float to_float(long double x, Rounding mode) {
  float y = float(x);
  if (mode == kNearest || y == x) return y;
  bool down = mode == kDown_ || (mode == kToZero && x > 0);
  if (down && y > x) return neighbour(y, false);
  if (!down && y < x) return neighbour(y, true);
  return y;
}

inline float from_bf16(u16 x) { return as<float>(u32(x) << 16); }
inline u16 to_bf16(float x, Rounding mode = kNearest) {
  u32 bits = as<u32>(x);
  if (x != x) return 0x7fff;
  if (mode == kNearest) bits += 0x7fff + (bits >> 16 & 1);
  return u16(bits >> 16);
}
inline float from_f16(u16 x) { return float(as<_Float16>(x)); }
inline u16 to_f16(float x) { return x != x ? u16(0x7fff) : as<u16>(_Float16(x)); }

// An integer of the range; what is not a number becomes 0, or of 64 bits the highest bit.
template <class To, class From>
inline To to_integer(From x) {
  constexpr bool is_signed = To(-1) < To(0);
  constexpr int bits = 8 * sizeof(To);
  constexpr To lowest = is_signed ? To(u64(1) << (bits - 1)) : To(0);
  constexpr To highest = To(is_signed ? (u64(1) << (bits - 1)) - 1 : ~u64(0) >> (64 - bits));
  if (x != x) return bits == 64 || sizeof(From) == 8 ? To(u64(1) << (bits - 1)) : To(0);
  if (x <= From(lowest)) return lowest;
  if (x >= From(highest)) return highest;
  return To(x);
}

template <class To, class From>
inline To clamped(From x) {
  constexpr bool is_signed = To(-1) < To(0);
  constexpr int bits = 8 * sizeof(To);
  __int128 lowest = is_signed ? -((__int128)1 << (bits - 1)) : 0;
  __int128 highest = is_signed ? ((__int128)1 << (bits - 1)) - 1 : ((__int128)1 << bits) - 1;
  __int128 wide = x;
  return To(wide < lowest ? lowest : wide > highest ? highest : wide);
}

}  // namespace cudasim
