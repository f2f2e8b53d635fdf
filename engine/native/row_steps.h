// Products on whole steps of rows.
//
// Every micro-batch of real rows has another number of tokens: m of a linear layer, k of its weight's gradient. A library
// that prepares for a shape wants few of them, so matrices have room behind them (their slack, see TensorOf), as far as a
// device's rule says, and products are done on as many rows as that makes.
#pragma once
#include "checked.h"
#include "tensor.h"

namespace tstrain {

// The rule of a device: a number of rows, rounded up.
using WholeRows = i64 (*)(i64 rows);

// What a matrix needs behind it. (DeviceKind::slack)
inline i64 slack_of(WholeRows whole, i64 rows, i64 columns) { return i64((whole(rows) - Checked(rows)) * columns); }

struct Rows {
  i64 m, k;
};

// On how many rows a product is done: whole steps where all tensors of so many rows have slack behind them. What is written
// into the slack means nothing; rows of it that are summed over (k) must be cleared first, in a and in b.
inline Rows stepped(WholeRows whole, Out c, In a, In b, In addend, i64 m, i64 n, i64 k, bool trans_a, bool trans_b) {
  auto room = [](const auto& t, i64 rows, i64 more, i64 columns) {
    return t.numel == rows * columns && t.slack >= more * columns;
  };
  i64 more_m = whole(m) - m, more_k = whole(k) - k;
  if (!trans_a && room(a, m, more_m, k) && room(c, m, more_m, n) && (!addend || room(addend, m, more_m, n)))
    m += more_m;
  if (trans_a && !trans_b && room(a, k, more_k, m) && room(b, k, more_k, n)) k += more_k;
  return {m, k};
}

}  // namespace tstrain
