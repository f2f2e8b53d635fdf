// The contract of each op as a function: name##_contract()(arguments) checks them and says what the op costs.
#pragma once
#include <string>

#include "../ops.h"

namespace tstrain {
namespace {

constexpr unsigned bit(DType t) { return 1u << unsigned(t); }
constexpr unsigned f32s = bit(DType::f32), bf16s = bit(DType::bf16), i32s = bit(DType::i32), f64s = bit(DType::f64),
                   u8s = bit(DType::u8), floats = f32s | bf16s, castable = floats | i32s | u8s, numbers = castable | f64s;

std::string text(i64 n) { return std::to_string(n); }

template <class T>
void check(const T& t, i64 numel, unsigned types, const char* argument) {
  if (!t) throw OpError(std::string(argument) + " is missing");
  if (!(bit(t.dtype) & types)) throw OpError(std::string(argument) + " is " + name_of(t.dtype) + ", which it may not be");
  if (t.numel < numel) throw OpError(std::string(argument) + " has " + text(t.numel) + " elements, needs " + text(numel));
}

template <class A, class B>
void check_same(const A& a, const B& b, const char* names) {
  if (a.dtype != b.dtype)
    throw OpError(std::string(names) + " must have one type, not " + name_of(a.dtype) + " and " + name_of(b.dtype));
}

[[noreturn]] void refuse(const std::string& why) { throw OpError(why); }

void require_groups(i64 heads, i64 kv_heads) {
  if (kv_heads < 1 || heads % kv_heads)
    refuse(text(heads) + " heads cannot share " + text(kv_heads) + " key/value heads");
}

#define need(t, numel, types) check(t, numel, types, #t)
#define optional(t, numel, types) ((t) ? check(t, numel, types, #t) : void())
#define same_type(a, b) check_same(a, b, #a " and " #b)
#define same_type_if(a, b) ((b) ? check_same(a, b, #a " and " #b) : void())
#define require(condition, why) ((condition) ? void() : refuse(why))
#define cost(flops, workspace) (Cost{flops, workspace})
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define TSTRAIN_CONTRACT(name, parameters, ...) \
  struct name##_contract {                      \
    const char* op = #name;                     \
    Cost operator() parameters const { return __VA_ARGS__; } \
  };
TSTRAIN_OPS(TSTRAIN_CONTRACT)
#pragma GCC diagnostic pop
#undef need
#undef optional
#undef same_type
#undef same_type_if
#undef require
#undef cost

}  // namespace
}  // namespace tstrain
