// Integers for sizes: arithmetic that would wrap around throws OpError and says which numbers are too large.
#pragma once
#include "tensor.h"

namespace tstrain {

class Checked {
 public:
  constexpr Checked(i64 value) : value_(value) {}
  explicit constexpr operator i64() const { return value_; }
  explicit constexpr operator f64() const { return f64(value_); }

  friend Checked operator+(Checked a, Checked b) {
    i64 sum;
    return __builtin_add_overflow(a.value_, b.value_, &sum) ? too_large(a, " + ", b) : sum;
  }
  friend Checked operator-(Checked a, Checked b) {
    i64 difference;
    return __builtin_sub_overflow(a.value_, b.value_, &difference) ? too_large(a, " - ", b) : difference;
  }
  friend Checked operator*(Checked a, Checked b) {
    i64 product;
    return __builtin_mul_overflow(a.value_, b.value_, &product) ? too_large(a, " × ", b) : product;
  }
  friend Checked operator/(Checked a, Checked b) { return a.value_ / b.value_; }
  friend Checked operator%(Checked a, Checked b) { return a.value_ % b.value_; }

  friend bool operator==(Checked a, Checked b) { return a.value_ == b.value_; }
  friend bool operator!=(Checked a, Checked b) { return a.value_ != b.value_; }
  friend bool operator<(Checked a, Checked b) { return a.value_ < b.value_; }
  friend bool operator<=(Checked a, Checked b) { return a.value_ <= b.value_; }
  friend bool operator>(Checked a, Checked b) { return a.value_ > b.value_; }
  friend bool operator>=(Checked a, Checked b) { return a.value_ >= b.value_; }

 private:
  [[noreturn]] static i64 too_large(Checked a, const char* operation, Checked b) {
    throw OpError("the sizes are too large: " + std::to_string(a.value_) + operation + std::to_string(b.value_));
  }

  i64 value_;
};

// n in steps of `step`.
inline Checked rounded_up(Checked n, Checked step) { return (n + (step - 1)) / step * step; }

}  // namespace tstrain
