// Where in a long reservation of addresses the tensors of a training step lie: bookkeeping alone, in offsets.
//
// Handed out best fit and coalesced on release. It never moves and is never given back piecemeal, so a training step
// that repeats finds its buffers where they were: no activation comes from the system. Offsets depend on the order of
// calls alone, so a run on `meta` (which has no memory) has the very high-water mark of the real one. What is free at
// the top is not a stretch to choose but the open end: an arena that is empty again places like a new one, so the
// high-water mark of a run is the largest of its micro-batches, in whatever order they come.
#pragma once
#include <map>
#include <set>
#include <utility>

#include "checked.h"

namespace tstrain {

class Arena {
 public:
  // `alignment` of all offsets; each stretch is a multiple of it long.
  Arena(i64 reserved, i64 alignment) : reserved_(reserved), alignment_(alignment) {}

  // Returns an offset. `workspace`: for the time of one op only. Throws OpError when the reservation is used up.
  i64 allocate(i64 bytes, bool workspace = false);
  void release(i64 offset, i64 bytes);

  // Whether there is room for so many.
  bool fits(i64 bytes) const;
  i64 reserved() const { return reserved_; }
  // There is another amount, before the first is handed out.
  void reserve(i64 bytes) { reserved_ = bytes; }
  i64 in_use() const { return in_use_; }
  i64 high_water() const { return high_water_; }
  // How much of it was workspace when it was reached.
  i64 workspace_at_high_water() const { return workspace_; }
  void reset_high_water() {
    high_water_ = top_;
    workspace_ = 0;
  }
  // How far stretches have reached since trimmed() was last called: memory may have been taken as far as there.
  i64 touched() const { return touched_; }
  void trimmed() { touched_ = top_; }

 private:
  i64 rounded(i64 bytes) const { return i64(rounded_up(bytes < 1 ? 1 : bytes, alignment_)); }

  i64 reserved_, alignment_;
  i64 top_ = 0;
  i64 in_use_ = 0;
  i64 high_water_ = 0;
  i64 workspace_ = 0;
  i64 touched_ = 0;
  std::map<i64, i64> free_;                     // offset → bytes
  std::set<std::pair<i64, i64>> free_by_size_;  // (bytes, offset): best fit, lowest address first
};

}  // namespace tstrain
