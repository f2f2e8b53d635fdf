#include "device.h"

#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "block_signals.h"
#include "cpu/select.h"
#include "ops.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define TSTRAIN_POISON(p, n) __asan_poison_memory_region(p, n)
#define TSTRAIN_UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define TSTRAIN_POISON(p, n) ((void)(p), (void)(n))
#define TSTRAIN_UNPOISON(p, n) ((void)(p), (void)(n))
#endif

namespace tstrain {

namespace {
// Addresses cost nothing until they are touched; 4 TiB is more than any machine this runs on has memory.
constexpr i64 kReservation = i64(1) << 42;
// Below this malloc is quicker; from here on a mapping of its own returns its pages when it is released. A mapping
// has no guard around it, so under AddressSanitizer all comes from malloc.
#if defined(__SANITIZE_ADDRESS__)
constexpr i64 kMapFrom = i64(1) << 62;
#else
constexpr i64 kMapFrom = i64(1) << 20;
#endif

int requested_threads = 1;
}  // namespace

Arena::Arena(bool backed) {
  if (!backed) return;
  for (i64 bytes = kReservation; bytes >= (i64(1) << 34); bytes /= 4) {
    void* p = mmap(nullptr, size_t(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) continue;
    base_ = p;
    reserved_ = bytes;
    madvise(p, size_t(bytes), MADV_HUGEPAGE);
    return;
  }
  throw OpError("cannot reserve address space for the arena (is `ulimit -v` set?)");
}

Arena::~Arena() {
  if (base_) munmap(base_, size_t(reserved_));
}

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
    if (base_ && offset + bytes > reserved_) throw OpError("out of memory: the arena's reservation is used up");
    top_ = offset + bytes;
    if (top_ > high_water_) {
      high_water_ = top_;
      workspace_ = workspace ? bytes : 0;
    }
    touched_ = std::max(touched_, top_);
  }
  in_use_ += bytes;
  if (base_) {
    TSTRAIN_POISON(at(offset), size_t(bytes));
    TSTRAIN_UNPOISON(at(offset), size_t(wanted));
  }
  return offset;
}

void Arena::release(i64 offset, i64 bytes) {
  bytes = rounded(bytes);
  in_use_ -= bytes;
  if (base_) TSTRAIN_POISON(at(offset), size_t(bytes));
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

void Arena::trim() {
  if (in_use_ != 0) return;
  if (base_ && touched_ > 0) {
    TSTRAIN_UNPOISON(base_, size_t(touched_));
    madvise(base_, size_t(touched_), MADV_DONTNEED);
  }
  touched_ = 0;
}

void* Device::heap_allocate(i64 bytes) {
  if (bytes < 1) bytes = 1;
  void* p = nullptr;
  if (backed) {
    if (bytes >= kMapFrom) {
      p = mmap(nullptr, size_t(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (p == MAP_FAILED) p = nullptr;
      else madvise(p, size_t(bytes), MADV_HUGEPAGE);
    } else {
      // Not aligned_alloc: its size is a multiple of 64, and AddressSanitizer would count the slack as ours.
      if (posix_memalign(&p, 64, size_t(bytes)) != 0) p = nullptr;
    }
    if (!p) throw OpError("out of memory: cannot allocate " + std::to_string(bytes) + " bytes");
  }
  heap_bytes += bytes;
  if (heap_bytes > heap_high_water) heap_high_water = heap_bytes;
  return p;
}

void Device::heap_release(void* p, i64 bytes) {
  if (bytes < 1) bytes = 1;
  heap_bytes -= bytes;
  if (!p) return;
  if (bytes >= kMapFrom) munmap(p, size_t(bytes));
  else std::free(p);
}

Device& cpu_device() {
  static Device device("cpu", &best_cpu_table(), true);
  return device;
}

Device& meta_device() {
  static Device device("meta", &meta_table, false);
  return device;
}

int thread_count() { return requested_threads; }

// Kernels, workspaces and oneDNN cut work up by the count that is set. If OpenMP then ran fewer threads (OMP_THREAD_LIMIT,
// OMP_MAX_ACTIVE_LEVELS, OMP_DYNAMIC), oneDNN would leave out the parts of those that are missing.
void set_thread_count(int n) {
  BlockSignals in_new_threads;
  omp_set_dynamic(0);
  omp_set_num_threads(n);
  int granted = 1;
#pragma omp parallel
#pragma omp single
  granted = omp_get_num_threads();
  if (granted != n) {
    omp_set_num_threads(thread_count());
    throw OpError("OpenMP grants " + std::to_string(granted) + " of " + std::to_string(n) +
                  " threads (OMP_THREAD_LIMIT and OMP_MAX_ACTIVE_LEVELS bound them); ask for no more than that by `threads` "
                  "or TSTRAIN_NUM_THREADS");
  }
  requested_threads = n;
}

}  // namespace tstrain
