// A device: where memory comes from, and which implementation of the op table runs on it.
#pragma once
#include <map>
#include <set>
#include <utility>

#include "tensor.h"

namespace tstrain {

struct OpTable;

// One long reservation of addresses, handed out best fit and coalesced on release. It never moves and is never
// given back piecemeal, so a training step that repeats finds its buffers where they were: no activation comes
// from the system. Offsets depend on the order of calls alone, so a run on `meta` (which reserves
// nothing) has the very high-water mark of the real one. What is free at the top is not a stretch to choose but
// the open end: an arena that is empty again places like a new one, so the high-water mark of a run is the largest
// of its micro-batches, in whatever order they come.
class Arena {
 public:
  explicit Arena(bool backed);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Returns an offset, aligned to kAlign. `workspace`: for the time of one op only.
  i64 allocate(i64 bytes, bool workspace = false);
  void release(i64 offset, i64 bytes);
  void* at(i64 offset) const { return base_ ? static_cast<char*>(base_) + offset : nullptr; }

  i64 in_use() const { return in_use_; }
  i64 high_water() const { return high_water_; }
  // How much of it was workspace when it was reached.
  i64 workspace_at_high_water() const { return workspace_; }
  void reset_high_water() {
    high_water_ = top_;
    workspace_ = 0;
  }
  // Gives the pages of a wholly free arena back to the system.
  void trim();

  static constexpr i64 kAlign = 256;
  static i64 rounded(i64 bytes) { return bytes <= 0 ? kAlign : (bytes + kAlign - 1) / kAlign * kAlign; }

 private:
  void* base_ = nullptr;
  i64 reserved_ = 0;
  i64 top_ = 0;
  i64 in_use_ = 0;
  i64 high_water_ = 0;
  i64 workspace_ = 0;
  i64 touched_ = 0;  // as far as pages may have been taken from the system
  std::map<i64, i64> free_;                  // offset → bytes
  std::set<std::pair<i64, i64>> free_by_size_;  // (bytes, offset): best fit, lowest address first
};

struct Device {
  const char* name;
  const OpTable* ops;
  bool backed;  // false: meta, which has sizes but no memory
  Arena arena;
  i64 heap_bytes = 0;
  i64 heap_high_water = 0;
  f64 flops = 0;  // counted by the op table's contracts since the last reset

  Device(const char* name, const OpTable* ops, bool backed) : name(name), ops(ops), backed(backed), arena(backed) {}

  void* heap_allocate(i64 bytes);
  void heap_release(void* p, i64 bytes);
};

// The devices of this process. Each is opened at its first use and lives as long as the process.
Device& cpu_device();
Device& meta_device();

int thread_count();
void set_thread_count(int n);

}  // namespace tstrain
