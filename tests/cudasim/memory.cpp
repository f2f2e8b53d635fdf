#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "../../engine/native/cuda/driver.h"
#include "settings.h"

namespace cudasim {

namespace {

using tstrain::cuda::CUDA_ERROR_OUT_OF_MEMORY;
constexpr int kInvalidValue = 1;

constexpr u64 kPage = 4096, kPoisonPiece = u64(4) << 20;

struct Allocation {
  u64 bytes;
  const char* by;
};
struct Physical {
  u64 bytes;
  bool mapped;
};
struct Mapping {
  u64 bytes, handle;
  bool allowed;
};

std::map<u64, Allocation> allocations, freed;
std::map<u64, u64> reservations, unmapped;  // bytes by start
std::map<u64, Mapping> mappings;
std::map<u64, Physical> physical;
std::map<u64, u64> pinned;
u64 used = 0, next_handle = 1, died = 0, next_address = 0;
int poison_file = -1;

void* mapped_or_die(void* at, u64 bytes, int protection, int flags, int file) {
  void* got = mmap(at, bytes, protection, flags, file, 0);
  if (got == MAP_FAILED || (at && got != at)) {
    std::perror("cudasim: mmap");
    std::exit(1);
  }
  return got;
}

void begin() {
  if (next_address) return;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  mapped_or_die(reinterpret_cast<void*>(kDeviceStart), kDeviceBytes, PROT_NONE, flags | MAP_FIXED_NOREPLACE, -1);
  mapped_or_die(reinterpret_cast<void*>(kRecords), kDeviceBytes / 2 * sizeof(Record), PROT_READ | PROT_WRITE,
                flags | MAP_FIXED_NOREPLACE, -1);
  poison_file = memfd_create("cudasim-poison", MFD_CLOEXEC);
  std::vector<unsigned char> piece(kPoisonPiece, settings().poison);
  if (poison_file < 0 || write(poison_file, piece.data(), piece.size()) != ssize_t(piece.size())) {
    std::perror("cudasim: poison");
    std::exit(1);
  }
  next_address = kDeviceStart + kGranularity;
}

u64 rounded_up(u64 x, u64 to) { return (x + to - 1) / to * to; }

// Addresses that nothing had before, with some between them that nothing gets.
u64 addresses(u64 bytes, u64 alignment) {
  begin();
  u64 start = rounded_up(next_address + kPage, alignment);
  if (start + bytes > kDeviceStart + kDeviceBytes) {
    std::fprintf(stderr, "cudasim: a process has used up 1 TiB of addresses\n");
    std::exit(1);
  }
  next_address = start + bytes;
  return start;
}

// Private pages of one file: all that is read is poison, and what is written is its own.
void put_memory(u64 start, u64 bytes) {
  for (u64 at = 0; at < bytes; at += kPoisonPiece)
    mapped_or_die(reinterpret_cast<void*>(start + at), std::min(kPoisonPiece, bytes - at), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_FIXED, poison_file);
}

void take_memory(u64 start, u64 bytes) {
  mapped_or_die(reinterpret_cast<void*>(start), bytes, PROT_NONE,
                MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  u64 first = u64(records_of(start)), last = u64(records_of(start + bytes));
  madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  died++;
}

template <class Map>
typename Map::const_iterator at_or_before(const Map& map, u64 address) {
  auto after = map.upper_bound(address);
  return after == map.begin() ? map.end() : std::prev(after);
}

}  // namespace

int allocate(u64* start, u64 bytes, const char* by) {
  if (bytes == 0) return kInvalidValue;
  if (bytes > free_bytes()) return CUDA_ERROR_OUT_OF_MEMORY;
  *start = addresses(rounded_up(bytes, kPage), std::max<u64>(kPage, 512));
  put_memory(*start, rounded_up(bytes, kPage));
  allocations[*start] = {bytes, by};
  used += bytes;
  return 0;
}

int release(u64 start) {
  if (start == 0) return 0;
  auto at = allocations.find(start);
  if (at == allocations.end() || pinned.count(start)) return kInvalidValue;
  used -= at->second.bytes;
  take_memory(start, rounded_up(at->second.bytes, kPage));
  freed.insert(*at);
  allocations.erase(at);
  return 0;
}

int reserve(u64* start, u64 bytes, u64 alignment) {
  if (bytes == 0 || bytes % kGranularity || (alignment & (alignment - 1))) return kInvalidValue;
  *start = addresses(bytes, std::max(kGranularity, alignment));
  reservations[*start] = bytes;
  return 0;
}

int unreserve(u64 start, u64 bytes) {
  auto at = reservations.find(start);
  if (at == reservations.end() || at->second != bytes) return kInvalidValue;
  auto first = mappings.lower_bound(start);
  if (first != mappings.end() && first->first < start + bytes) return kInvalidValue;
  reservations.erase(at);
  return 0;
}

int create(u64* handle, u64 bytes) {
  if (bytes == 0 || bytes % kGranularity) return kInvalidValue;
  if (bytes > free_bytes()) return CUDA_ERROR_OUT_OF_MEMORY;
  *handle = next_handle++;
  physical[*handle] = {bytes, false};
  used += bytes;
  return 0;
}

// The memory lives on while it is mapped.
int release_handle(u64 handle) {
  auto at = physical.find(handle);
  if (at == physical.end()) return kInvalidValue;
  for (auto& [start, m] : mappings) {
    if (m.handle != handle) continue;
    physical.erase(at);
    return 0;
  }
  used -= at->second.bytes;
  physical.erase(at);
  return 0;
}

int map(u64 start, u64 bytes, u64 handle) {
  auto memory = physical.find(handle);
  auto range = at_or_before(reservations, start);
  if (memory == physical.end() || range == reservations.end() || start % kGranularity ||
      start + bytes > range->first + range->second || bytes != memory->second.bytes)
    return kInvalidValue;
  if (memory->second.mapped) {
    std::fprintf(stderr, "cudasim: memory that is mapped a second time is not simulated\n");
    std::abort();
  }
  auto next = mappings.lower_bound(start);
  auto before = at_or_before(mappings, start);
  if ((next != mappings.end() && next->first < start + bytes) ||
      (before != mappings.end() && before->first + before->second.bytes > start))
    return kInvalidValue;
  memory->second.mapped = true;
  mappings[start] = {bytes, handle, false};
  return 0;
}

int unmap(u64 start, u64 bytes) {
  auto first = mappings.find(start);
  u64 end = start;
  auto last = first;
  while (last != mappings.end() && last->first == end && end < start + bytes) end += (last++)->second.bytes;
  if (first == mappings.end() || end != start + bytes) return kInvalidValue;
  for (auto at = first; at != last; ++at) {
    if (!physical.count(at->second.handle)) used -= at->second.bytes;
    unmapped[at->first] = at->second.bytes;
  }
  mappings.erase(first, last);
  take_memory(start, bytes);
  return 0;
}

int allow(u64 start, u64 bytes) {
  u64 end = start;
  for (auto at = mappings.find(start); at != mappings.end() && at->first == end && end < start + bytes; ++at)
    end += at->second.bytes;
  if (bytes == 0 || end != start + bytes) return kInvalidValue;
  for (auto at = mappings.find(start); at != mappings.end() && at->first < end; ++at) {
    if (!at->second.allowed) put_memory(at->first, at->second.bytes);
    at->second.allowed = true;
  }
  return 0;
}

u64 free_bytes() { return settings().memory > used ? settings().memory - used : 0; }

Range live_at(u64 address) {
  auto a = at_or_before(allocations, address);
  if (a != allocations.end() && address < a->first + a->second.bytes) return {a->first, a->first + a->second.bytes};
  auto m = at_or_before(mappings, address);
  if (m == mappings.end() || !m->second.allowed || address >= m->first + m->second.bytes) return {0, 0};
  Range range = {m->first, m->first + m->second.bytes};
  for (auto next = std::next(m); next != mappings.end() && next->first == range.end && next->second.allowed; ++next)
    range.end += next->second.bytes;
  for (auto at = m; at != mappings.begin();) {
    --at;
    if (!at->second.allowed || at->first + at->second.bytes != range.start) break;
    range.start = at->first;
  }
  return range;
}

bool is_live(u64 start, u64 bytes) {
  if (bytes == 0) return true;
  Range range = live_at(start);
  return range.end != 0 && bytes <= range.end - start;
}

std::string what_lies_at(u64 address) {
  char text[200];
  auto put = [&](const char* where, u64 distance, u64 bytes, const char* what, u64 start) {
    std::snprintf(text, sizeof text, "%llu bytes %s the %llu bytes of %s at 0x%llx", distance, where, bytes, what,
                  start);
    return std::string(text);
  };
  if (address < 4096) return "near the null pointer";
  auto a = at_or_before(allocations, address);
  if (a != allocations.end() && address < a->first + a->second.bytes)
    return put("into", address - a->first, a->second.bytes, a->second.by, a->first);
  auto f = at_or_before(freed, address);
  if (f != freed.end() && address < f->first + f->second.bytes)
    return put("into", address - f->first, f->second.bytes, "freed memory", f->first);
  auto u = at_or_before(unmapped, address);
  if (u != unmapped.end() && address < u->first + u->second)
    return put("into", address - u->first, u->second, "unmapped memory", u->first);
  auto r = at_or_before(reservations, address);
  if (r != reservations.end() && address < r->first + r->second)
    return put("into", address - r->first, r->second, "reserved addresses, with no memory behind them,", r->first);
  auto next = allocations.upper_bound(address);
  u64 past = a == allocations.end() ? ~u64(0) : address - (a->first + a->second.bytes);
  u64 before = next == allocations.end() ? ~u64(0) : next->first - address;
  if (past <= before && past < (u64(1) << 20))
    return put("past the end of", past, a->second.bytes, a->second.by, a->first);
  if (before < (u64(1) << 20)) return put("before", before, next->second.bytes, next->second.by, next->first);
  return "in no memory of the card";
}

u64 deaths() { return died; }

void clear_records() {
  begin();
  madvise(reinterpret_cast<void*>(kRecords), kDeviceBytes / 2 * sizeof(Record), MADV_DONTNEED);
}

// Among the card's addresses, since kernels reach it; it is none of its memory.
void* allocate_pinned(u64 bytes) {
  u64 start = addresses(rounded_up(bytes, kPage), kPage);
  put_memory(start, rounded_up(bytes, kPage));
  pinned[start] = bytes;
  allocations[start] = {bytes, "cuMemHostAlloc"};
  return reinterpret_cast<void*>(start);
}

bool release_pinned(void* memory) {
  u64 start = u64(memory);
  auto at = pinned.find(start);
  if (at == pinned.end()) return false;
  take_memory(start, rounded_up(at->second, kPage));
  freed.insert(*allocations.find(start));
  allocations.erase(start);
  pinned.erase(at);
  return true;
}

bool is_pinned(const void* start, u64 bytes) {
  auto at = at_or_before(pinned, u64(start));
  return at != pinned.end() && u64(start) + bytes <= at->first + at->second;
}

void tell_leaks() {
  for (auto& [start, a] : allocations)
    if (std::strcmp(a.by, "a module's variable") != 0 && !pinned.count(start))
      std::fprintf(stderr, "cudasim: never freed: %llu bytes of %s at 0x%llx\n", a.bytes, a.by, start);
  for (auto& [start, m] : mappings)
    std::fprintf(stderr, "cudasim: never unmapped: %llu bytes at 0x%llx\n", m.bytes, start);
  for (auto& [handle, p] : physical)
    std::fprintf(stderr, "cudasim: never released: %llu bytes of cuMemCreate (handle %llu)\n", p.bytes, handle);
  for (auto& [start, bytes] : pinned)
    std::fprintf(stderr, "cudasim: never freed: %llu bytes of cuMemHostAlloc at 0x%llx\n", bytes, start);
}

}  // namespace cudasim
