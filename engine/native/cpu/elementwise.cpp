#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

void axpby(const Context&, Out y, In x, In z, i64 n, f64 a, f64 b) {
  float fa = float(a), fb = float(b);
  with_float_type(y.dtype, [&](auto* ty) {
    using Y = std::remove_pointer_t<decltype(ty)>;
    with_float_type(x.dtype, [&](auto* tx) {
      using X = std::remove_pointer_t<decltype(tx)>;
      with_float_type(z ? z.dtype : x.dtype, [&](auto* tz) {
        using Z = std::remove_pointer_t<decltype(tz)>;
        Y* yp = y.as<Y>();
        const X* xp = x.as<X>();
        const Z* zp = z.as<Z>();
        if (zp) {
#pragma omp parallel for simd schedule(static) if (n >= kParallelFrom)
          for (i64 i = 0; i < n; i++) store(yp + i, fa * load(xp + i) + fb * load(zp + i));
        } else {
#pragma omp parallel for simd schedule(static) if (n >= kParallelFrom)
          for (i64 i = 0; i < n; i++) store(yp + i, fa * load(xp + i));
        }
      });
    });
  });
}

namespace {
inline float load(const std::int32_t* p) { return float(*p); }
inline float load(const std::uint8_t* p) { return float(*p); }
// As JavaScript does it: the fraction goes, what is too large wraps around, what is no number becomes 0.
inline void store(std::int32_t* p, float x) { *p = std::fabs(x) < 9.2e18f ? std::int32_t(std::int64_t(x)) : 0; }
inline void store(std::uint8_t* p, float x) { *p = x != 0; }
using TSTRAIN_ISA::load;
using TSTRAIN_ISA::store;

template <class F>
void with_number_type(DType t, F&& f) {
  switch (t) {
    case DType::f32: return f(static_cast<float*>(nullptr));
    case DType::bf16: return f(static_cast<bf16*>(nullptr));
    case DType::i32: return f(static_cast<std::int32_t*>(nullptr));
    case DType::u8: return f(static_cast<std::uint8_t*>(nullptr));
    case DType::f64:
    case DType::i16: return;  // refused by the contract
  }
}
}  // namespace

void cast(const Context&, Out y, In x, i64 n) {
  if (y.dtype == x.dtype) {
    i64 bytes = n * size_of(y.dtype);
    constexpr i64 kBlock = 1 << 20;
#pragma omp parallel for schedule(static) if (bytes >= 4 * kParallelFrom)
    for (i64 at = 0; at < bytes; at += kBlock)
      std::memmove(y.as<char>() + at, x.as<char>() + at, size_t(bytes - at < kBlock ? bytes - at : kBlock));
    return;
  }
  with_number_type(y.dtype, [&](auto* ty) {
    using Y = std::remove_pointer_t<decltype(ty)>;
    with_number_type(x.dtype, [&](auto* tx) {
      using X = std::remove_pointer_t<decltype(tx)>;
      Y* yp = y.as<Y>();
      const X* xp = x.as<X>();
#pragma omp parallel for simd schedule(static) if (n >= kParallelFrom)
      for (i64 i = 0; i < n; i++) store(yp + i, load(xp + i));
    });
  });
}

void fill(const Context&, Out y, i64 n, f64 value) {
  if (value == 0) {
    i64 bytes = n * size_of(y.dtype);
    constexpr i64 kBlock = 1 << 20;
#pragma omp parallel for schedule(static) if (bytes >= 4 * kParallelFrom)
    for (i64 at = 0; at < bytes; at += kBlock)
      std::memset(y.as<char>() + at, 0, size_t(bytes - at < kBlock ? bytes - at : kBlock));
    return;
  }
  auto all = [&](auto* to, auto element) {
#pragma omp parallel for simd schedule(static) if (n >= kParallelFrom)
    for (i64 i = 0; i < n; i++) to[i] = element;
  };
  if (y.dtype == DType::i16) return all(y.as<std::int16_t>(), std::int16_t(value));
  with_number_type(y.dtype, [&](auto* ty) {
    using Y = std::remove_pointer_t<decltype(ty)>;
    Y element;
    // An int32 need not fit a float.
    if constexpr (std::is_same_v<Y, std::int32_t>) element = std::int32_t(value);
    else store(&element, float(value));
    all(y.as<Y>(), element);
  });
}

}  // namespace tstrain::TSTRAIN_ISA
