// Numbers by their place, in any order: a counter-based generator.
#pragma once
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

// SplitMix64's output function: a bijection that spreads every input bit.
inline std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

inline std::uint64_t stream_of(std::uint64_t seed, std::uint64_t stream) {
  return mix(mix(seed + 0x9e3779b97f4a7c15ull) + stream);
}

// The place-th number of a stream.
inline std::uint64_t number_at(std::uint64_t stream, std::uint64_t place) {
  return mix(stream + place * 0x9e3779b97f4a7c15ull);
}

}  // namespace tstrain::TSTRAIN_ISA
