// The CPU's memory: the host's own, so that nothing is queued and copies are copies.
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu.h"

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
// Enough for the steps of a small model; with less there is no use in starting.
constexpr i64 kLeastReservation = i64(1) << 24;
// Below this malloc is quicker; from here on a mapping of its own returns its pages when it is released. A mapping
// has no guard around it, so under AddressSanitizer all comes from malloc.
#if defined(__SANITIZE_ADDRESS__)
constexpr i64 kMapFrom = i64(1) << 62;
#else
constexpr i64 kMapFrom = i64(1) << 20;
#endif

// How many addresses the arena may take. What `ulimit -v` leaves is for weights, libraries and JavaScript too.
i64 addresses_to_reserve() {
  rlimit limit;
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kReservation;
  long pages = 0;
  if (std::FILE* statm = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(statm, "%ld", &pages) != 1) pages = 0;
    std::fclose(statm);
  }
  i64 page = sysconf(_SC_PAGESIZE);
  i64 left = i64(std::min<rlim_t>(limit.rlim_cur, kReservation)) / page - pages;
  return std::max<i64>(left / 2, 0) * page;
}

class CpuMemory : public Memory {
 public:
  ~CpuMemory() override {
    if (range_.start) munmap(range_.start, size_t(range_.bytes));
  }

  Range reserve(i64) override {
    for (i64 bytes = addresses_to_reserve(); bytes >= kLeastReservation; bytes /= 2) {
      void* p =
          mmap(nullptr, size_t(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (p == MAP_FAILED) continue;
      madvise(p, size_t(bytes), MADV_HUGEPAGE);
      return range_ = {static_cast<char*>(p), bytes};
    }
    throw OpError("cannot reserve addresses for the arena: raise `ulimit -v`");
  }

  // What lies between the stretches of the arena is nobody's.
  char* open(char* start, i64 bytes) override {
    close(start, bytes);
    TSTRAIN_UNPOISON(start, size_t(bytes));
    return start;
  }
  void close(char* start, i64 bytes) override { TSTRAIN_POISON(start, size_t(i64(rounded_up(bytes, kCpuAlignment)))); }

  void give_back(char* start, i64 bytes) override {
    TSTRAIN_UNPOISON(start, size_t(bytes));
    madvise(start, size_t(bytes), MADV_DONTNEED);
  }

  char* allocate(i64 bytes) override {
    void* p = nullptr;
    if (bytes >= kMapFrom) {
      p = mmap(nullptr, size_t(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (p == MAP_FAILED) p = nullptr;
      else madvise(p, size_t(bytes), MADV_HUGEPAGE);
    } else {
      // Not aligned_alloc: its size is a multiple of 64, and AddressSanitizer would count the slack as ours.
      if (posix_memalign(&p, 64, size_t(bytes)) != 0) p = nullptr;
    }
    if (!p) throw OutOfMemory("out of memory: cannot allocate " + std::to_string(bytes) + " bytes");
    return static_cast<char*>(p);
  }

  void release(char* start, i64 bytes) override {
    if (bytes >= kMapFrom) munmap(start, size_t(bytes));
    else std::free(start);
  }

  void copy_in(char* to, const void* host, i64 bytes) override { std::memcpy(to, host, size_t(bytes)); }
  void copy_out(void* host, const char* from, i64 bytes) override { std::memcpy(host, from, size_t(bytes)); }
  void synchronize() override {}

 private:
  Range range_{};
};

}  // namespace

Memory& cpu_memory() {
  static CpuMemory memory;
  return memory;
}

}  // namespace tstrain
