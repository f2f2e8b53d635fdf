// Blocks that sums are made of, the same for every instruction set so that the plan need not know it.
#pragma once
#include "../checked.h"

namespace tstrain {

constexpr i64 kSumBlock = 4096;

inline i64 sum_blocks(i64 n) { return i64(rounded_up(n, kSumBlock) / kSumBlock); }

}  // namespace tstrain
