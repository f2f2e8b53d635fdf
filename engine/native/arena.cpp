#include "arena.h"

#include <algorithm>
#include <iterator>

namespace tstrain {

i64 Arena::allocate(i64 wanted, bool workspace) {
  i64 bytes = rounded(wanted);
  i64 offset;
  auto best = free_by_size_.lower_bound({bytes, 0});
  if (best != free_by_size_.end()) {
    auto [size, at] = *best;
    offset = at;
    free_by_size_.erase(best);
    free_.erase(at);
    if (size > bytes) {
      free_[at + bytes] = size - bytes;
      free_by_size_.insert({size - bytes, at + bytes});
    }
  } else {
    offset = top_;
    if (bytes > reserved_ - offset)
      throw OutOfMemory("out of memory: the " + std::to_string(reserved_) +
                        " bytes reserved for the arena are used up");
    top_ = offset + bytes;
    if (top_ > high_water_) {
      high_water_ = top_;
      workspace_ = workspace ? bytes : 0;
    }
    touched_ = std::max(touched_, top_);
  }
  in_use_ += bytes;
  return offset;
}

bool Arena::fits(i64 wanted) const {
  i64 bytes = rounded(wanted);
  return bytes <= reserved_ - top_ || free_by_size_.lower_bound({bytes, 0}) != free_by_size_.end();
}

void Arena::release(i64 offset, i64 bytes) {
  bytes = rounded(bytes);
  in_use_ -= bytes;
  auto next = free_.lower_bound(offset);
  if (next != free_.end() && next->first == offset + bytes) {
    bytes += next->second;
    free_by_size_.erase({next->second, next->first});
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second == offset) {
      offset = before->first;
      bytes += before->second;
      free_by_size_.erase({before->second, before->first});
      free_.erase(before);
    }
  }
  if (offset + bytes == top_) {
    top_ = offset;
  } else {
    free_[offset] = bytes;
    free_by_size_.insert({bytes, offset});
  }
}

}  // namespace tstrain
