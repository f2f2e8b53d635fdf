// The contract of each op as a function: name##_contract()(arguments) checks them and returns the FLOPs of the op. Beside
// it, the entry's own words, for description.h.
#pragma once
#include <string>

#include "../checked.h"
#include "../ops.h"

namespace tstrain {
namespace {

constexpr unsigned bit(DType t) { return 1u << unsigned(t); }
constexpr unsigned f32s = bit(DType::f32), bf16s = bit(DType::bf16), i32s = bit(DType::i32), f64s = bit(DType::f64),
                   u8s = bit(DType::u8), i16s = bit(DType::i16), floats = f32s | bf16s, castable = floats | i32s | u8s,
                   numbers = castable | f64s;

std::string text(Checked n) { return std::to_string(i64(n)); }

template <class T>
void check(const T& t, Checked numel, unsigned types, const char* argument) {
  if (!t) throw OpError(std::string(argument) + " is missing");
  if (!(bit(t.dtype) & types))
    throw OpError(std::string(argument) + " is " + name_of(t.dtype) + ", which it may not be");
  if (t.numel < numel)
    throw OpError(std::string(argument) + " has " + text(t.numel) + " elements, needs " + text(numel));
}

template <class A, class B>
void check_same(const A& a, const B& b, const char* names) {
  if (a.dtype != b.dtype)
    throw OpError(std::string(names) + " must have one type, not " + name_of(a.dtype) + " and " + name_of(b.dtype));
}

[[noreturn]] void refuse(const std::string& why) { throw OpError(why); }

void require_groups(Checked heads, Checked kv_heads) {
  if (kv_heads < 1 || heads % kv_heads != 0)
    refuse(text(heads) + " heads cannot share " + text(kv_heads) + " key/value heads");
}

Checked elements(const Four& shape) { return Checked(shape[0]) * shape[1] * shape[2] * shape[3]; }

// The elements that indices of `shape` reach through strides, from 0 on.
Checked strided_extent(Checked offset, const Four& shape, const Four& strides) {
  // Kernels count the indices even where strides of 0 keep them all in one place.
  if (elements(shape) == 0) return 0;
  for (int axis = 0; axis < 4; axis++) offset = offset + (Checked(shape[axis]) - 1) * strides[axis];
  return offset + 1;
}

f64 cost(f64 flops) { return flops; }

#define NEED(t, numel, types) check(t, numel, types, #t)
#define OPTIONAL(t, numel, types) ((t) ? check(t, numel, types, #t) : void())
#define SAME_TYPE(a, b) check_same(a, b, #a " and " #b)
#define SAME_TYPE_IF(a, b) ((b) ? check_same(a, b, #a " and " #b) : void())
#define REQUIRE(condition, why) ((condition) ? void() : refuse(why))
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define TSTRAIN_CONTRACT(name, parameters, ...)                                               \
  struct name##_contract {                                                                    \
    using i64 = Checked;                                                                      \
    static constexpr const char *op = #name, *signature = #parameters, *rules = #__VA_ARGS__; \
    f64 operator() parameters const { return __VA_ARGS__; }                                   \
  };
TSTRAIN_OPS(TSTRAIN_CONTRACT)
#pragma GCC diagnostic pop
#undef NEED
#undef OPTIONAL
#undef SAME_TYPE
#undef SAME_TYPE_IF
#undef REQUIRE

}  // namespace
}  // namespace tstrain
