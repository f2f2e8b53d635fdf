// How work is cut up: by sizes alone, never by the card, so that each card gives the same bits and a plan needs none.
#pragma once
#include <algorithm>

#include "launch.h"

namespace tstrain::cuda {

inline DType larger(DType a, DType b) { return size_of(a) > size_of(b) ? a : b; }

// Blocks for n elements of types the largest of which is `type`, as on_card.h's each() takes them. Where they cannot be
// moved in vectors, each thread goes round more often.
inline Grid vectors(i64 n, DType type) { return blocks_for(n, 256 * (16 / size_of(type))); }

// Threads of a block that takes a row of vectors: whole warps.
inline int row_threads(i64 dim, DType type, int most) {
  i64 lanes = 16 / size_of(type), warps = (dim + 32 * lanes - 1) / (32 * lanes);
  return int(std::clamp<i64>(warps * 32, 32, most));
}

// Whether words that a kernel numbers from 0 on are all of ops.h's, with the same numbers.
template <class T, int count>
constexpr bool all_in_order(const T (&words)[count]) {
  for (int i = 0; i < count; i++)
    if (int(words[i]) != i) return false;
  return count == Words<T>::count;
}

// What is summed, or otherwise put together, in a second pass.
struct Parts {
  i64 count, size;  // the last may be shorter
};

// Of at least `least` elements each, and not more of them than `most`.
inline Parts parts_of(i64 n, i64 least, i64 most) {
  i64 size = std::max(least, (n + most - 1) / most);
  return {(n + size - 1) / size, size};
}

// The second pass takes the fewer parts the shorter, and a block has the more loads on their way the larger its part.
inline Parts sum_parts(i64 n) { return parts_of(n, 8192, 16384); }

// Rows of a matrix whose columns are summed up in float64. The parts' sums of 8,192 rows of bfloat16, written and read,
// are a sixteenth of the matrix.
inline Parts column_parts(i64 rows) { return parts_of(rows, 128, 256); }

// Rows of a norm's backward pass, one block a part: 512 of them fill the largest cards. The parts' sums of 8,192 rows of
// bfloat16, written and read, are a sixteenth of what the pass itself moves.
inline Parts norm_parts(i64 rows) { return parts_of(rows, 16, 512); }

// A reduction to few numbers over a long axis would keep few blocks busy.
inline Parts axis_parts(i64 outer, i64 n, i64 inner) {
  constexpr i64 kLong = 16384, kMany = 4096;
  return n > kLong && outer * inner < kMany ? parts_of(n, kLong, 256) : Parts{1, n};
}

// What the parts of a reduction are kept in.
inline DType partial_type(Reduction op, DType type) {
  return type == DType::f32 && (op == Reduction::sum || op == Reduction::mean) ? DType::f64 : type;
}

// y[c] += Σ_k parts[k, c] for parts [count, columns] of float32 or float64 (columns.cu).
void add_parts(const Context& context, Out y, const void* parts, DType type, i64 count, i64 columns);

}  // namespace tstrain::cuda
