// A float as a bfloat16 and what that leaves of its pattern, as the op table says it.
#pragma once
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

inline float joined(bf16 high, std::int16_t low) {
  return bits_to_float((std::uint32_t(high.bits) << 16) + std::uint32_t(std::int32_t(low)));
}

inline bool is_nan(std::uint32_t bits) { return (bits & 0x7fffffffu) > 0x7f800000u; }

inline bf16 high_of(float x) {
  std::uint32_t bits = float_to_bits(x), quiet = (bits >> 16) | 0x40u;
  return {std::uint16_t(is_nan(bits) ? quiet : (bits + 0x8000u) >> 16)};
}

inline std::int16_t low_of(float x) {
  std::uint32_t bits = float_to_bits(x);
  return std::int16_t(is_nan(bits) ? 0 : bits);
}

}  // namespace tstrain::TSTRAIN_ISA
