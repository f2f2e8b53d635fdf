// The simulated card's memory, and the host's pinned memory.
//
// Addresses are never used again, so that a stale one stays stale. Fresh memory reads as poison, and takes memory of the
// host's where it is written.
#pragma once
#include <cstdint>
#include <string>

#include "ptx.h"

namespace cudasim {

// Above 2^46, below which Node's JavaScript has its memory at random addresses, and below where Linux puts programs and
// libraries.
constexpr u64 kDeviceStart = u64(0x44) << 40, kDeviceBytes = u64(1) << 40;

// Who last wrote and read two bytes of the card's memory in which launch: run.cpp says how.
struct Record {
  u64 written, read;
};
constexpr u64 kRecords = u64(0x48) << 40;
inline Record* records_of(u64 address) {
  return reinterpret_cast<Record*>(kRecords + (address - kDeviceStart) / 2 * sizeof(Record));
}

// Results are CUresults; addresses and sizes that make no sense are CUDA_ERROR_INVALID_VALUE.
int allocate(u64* start, u64 bytes, const char* by);
int release(u64 start);

constexpr u64 kGranularity = u64(1) << 21;
int reserve(u64* start, u64 bytes, u64 alignment);
int unreserve(u64 start, u64 bytes);
int create(u64* handle, u64 bytes);
int release_handle(u64 handle);
int map(u64 start, u64 bytes, u64 handle);
int unmap(u64 start, u64 bytes);
int allow(u64 start, u64 bytes);

u64 free_bytes();

// The live memory around an address: empty when there is none.
Range live_at(u64 address);
bool is_live(u64 start, u64 bytes);

// What lies at an address, in words: "4 bytes past the end of 1024 bytes of cuMemAlloc at 0x…".
std::string what_lies_at(u64 address);

// Counts what ended the life of some memory: a Range remembered before may be stale.
u64 deaths();

// Forgets all records.
void clear_records();

void* allocate_pinned(u64 bytes);
bool release_pinned(void* start);
// Whether all of it is live pinned memory.
bool is_pinned(const void* start, u64 bytes);

// Says on stderr what was never given back.
void tell_leaks();

}  // namespace cudasim
