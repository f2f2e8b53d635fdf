// What ops read and write: a typed stretch of one device's memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace tstrain {

using i64 = std::int64_t;
using f64 = double;

enum class DType : std::uint8_t { f32 = 0, bf16 = 1, i32 = 2, f64 = 3, u8 = 4, i16 = 5 };
constexpr i64 kDTypes = 6;

inline i64 size_of(DType t) {
  switch (t) {
    case DType::f32:
    case DType::i32: return 4;
    case DType::bf16:
    case DType::i16: return 2;
    case DType::f64: return 8;
    case DType::u8: return 1;
  }
  return 0;
}

inline const char* name_of(DType t) {
  switch (t) {
    case DType::f32: return "float32";
    case DType::bf16: return "bfloat16";
    case DType::i32: return "int32";
    case DType::f64: return "float64";
    case DType::u8: return "uint8";
    case DType::i16: return "int16";
  }
  return "?";
}

// Storage only: arithmetic happens in float, conversions are in cpu/simd.h.
struct bf16 {
  std::uint16_t bits;
};

// A mistake in a call. Caught at the N-API border and turned into a JavaScript Error.
struct OpError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Memory that is not there; its JavaScript Error has a code.
struct OutOfMemory : OpError {
  using OpError::OpError;
  static constexpr const char* code = "OUT_OF_MEMORY";
};

// `data` is null on the meta device, so presence is told apart from the address: an op's optional tensor that
// was not given is `present == false` on every device.
template <class Pointer>
struct TensorOf {
  Pointer data = nullptr;
  i64 numel = 0;
  // Elements behind the last one that belong to the buffer and mean nothing: any op may write there.
  i64 slack = 0;
  DType dtype = DType::f32;
  bool present = false;
  explicit operator bool() const { return present; }
};

struct In : TensorOf<const void*> {
  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

struct Out : TensorOf<void*> {
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace tstrain
