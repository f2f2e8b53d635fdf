// The card's memory.
//
// The arena is a range of addresses as long as the card's memory, and memory is put behind it as the arena grows, by the
// driver's virtual memory management: what a step needs is known when it has been seen, and nothing moves. A driver that
// does not manage virtual memory (some virtual machines) gives one allocation, as large as the plan says. Never managed
// memory: it can hang a card that is asked for more than it has.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "card.h"
#include "graph.h"

namespace tstrain::cuda {

namespace {

char* to_pointer(CUdeviceptr address) { return reinterpret_cast<char*>(address); }
CUdeviceptr to_address(const char* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

// Below this an allocation is a part of a block that is shared, since the driver takes its time and whole pages for each.
constexpr i64 kSmall = i64(1) << 18, kBlock = i64(1) << 24;

constexpr unsigned kMapped = 2;  // CU_MEMHOSTALLOC_DEVICEMAP

// The host's bytes wait here for their copy: the driver can only copy from such pinned memory while the host goes on.
constexpr i64 kStaging = i64(1) << 22;
constexpr int kStagings = 4;

std::string in_mib(i64 bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

std::string out_of_memory(i64 bytes) {
  size_t free = 0, total = 0;
  driver().cuMemGetInfo_v2(&free, &total);
  return "out of memory: " + in_mib(bytes) + " were asked for, and " + in_mib(i64(free)) + " of the card's " +
         in_mib(i64(total)) + " are free";
}

// Memory behind a part of the arena's addresses.
struct Piece {
  CUmemGenericAllocationHandle memory;
  i64 bytes;
};

class CudaMemory : public Memory {
 public:
  CudaMemory() {
    card();
    int manages = 0;
    check(driver().cuDeviceGetAttribute(&manages, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
                                        driver().device),
          "asking for virtual memory management");
    virtual_ = manages != 0;
    const char* each = std::getenv("TSTRAIN_CUDA_ALLOCATIONS");
    each_ = each && !std::strcmp(each, "each");
    for (auto& s : stagings_) s = new_staging();
    check(driver().cuEventCreate(&computed_, CU_EVENT_DISABLE_TIMING), "making an event");
    check(driver().cuEventCreate(&copied_, CU_EVENT_DISABLE_TIMING), "making an event");
  }

  Range reserve(i64 expected) override {
    if (each_) return {nullptr, i64(driver().total_bytes)};
    if (virtual_) {
      step_ = granularity();
      i64 bytes = i64(rounded_up(i64(driver().total_bytes), step_));
      CUdeviceptr start;
      check(driver().cuMemAddressReserve(&start, size_t(bytes), 0, 0, 0), "reserving addresses for the arena");
      return range_ = {to_pointer(start), bytes};
    }
    // One piece, which cannot grow: as soon as something is known.
    if (expected == 0) return {nullptr, i64(driver().total_bytes)};
    range_ = {allocate_whole(expected), expected};
    return range_;
  }

  char* open(char* start, i64 bytes) override {
    if (each_) return allocate_whole(bytes);
    if (virtual_ && start + bytes > range_.start + mapped_) map(start + bytes - range_.start - mapped_);
    return start;
  }

  void close(char* start, i64) override {
    if (each_) release_whole(start);
  }

  void give_back(char* start, i64) override {
    if (!virtual_ || each_) return;
    synchronize();
    while (!pieces_.empty() && start <= range_.start + mapped_ - pieces_.back().bytes) {
      mapped_ -= pieces_.back().bytes;
      check(driver().cuMemUnmap(to_address(range_.start + mapped_), size_t(pieces_.back().bytes)),
            "giving memory back");
      check(driver().cuMemRelease(pieces_.back().memory), "giving memory back");
      pieces_.pop_back();
    }
  }

  char* allocate(i64 bytes) override {
    if (bytes > kSmall || each_) return allocate_whole(bytes);
    for (auto& block : blocks_)
      if (block.arena.fits(bytes)) return block.start + block.arena.allocate(bytes);
    blocks_.push_back({allocate_whole(kBlock), Arena(kBlock, kAlignment)});
    return blocks_.back().start + blocks_.back().arena.allocate(bytes);
  }

  void release(char* start, i64 bytes) override {
    if (bytes > kSmall || each_) return release_whole(start);
    // Who gets it next comes later on the stream.
    for (auto& block : blocks_)
      if (start >= block.start && start < block.start + kBlock) return block.arena.release(start - block.start, bytes);
  }

  // Pinned, so that kernels read and write it in place, by the same address.
  char* allocate_on_host(i64 bytes) override {
    void* start;
    CUresult result = driver().cuMemHostAlloc(&start, size_t(bytes), kMapped);
    if (result == CUDA_ERROR_OUT_OF_MEMORY)
      throw OutOfMemory("out of memory: " + in_mib(bytes) + " of the machine's memory were asked for, to be pinned");
    check(result, "allocating pinned memory");
    return static_cast<char*>(start);
  }

  void release_on_host(char* start, i64) override {
    synchronize();
    driver().cuMemFreeHost(start);
  }

  void copy_in(char* to, const void* host, i64 bytes) override {
    after(card().compute, computed_, card().copy);
    for (i64 done = 0; done < bytes; done += kStaging) {
      i64 part = std::min(kStaging, bytes - done);
      auto& s = stagings_[next_++ % kStagings];
      if (s.used) check(driver().cuEventSynchronize(s.copied), "waiting for a copy");
      std::memcpy(s.start, static_cast<const char*>(host) + done, size_t(part));
      check(driver().cuMemcpyHtoDAsync_v2(to_address(to + done), s.start, size_t(part), card().copy), "copying in");
      check(driver().cuEventRecord(s.copied, card().copy), "recording an event");
      s.used = true;
    }
    after(card().copy, copied_, card().compute);
  }

  void copy_out(void* host, const char* from, i64 bytes) override {
    after(card().compute, computed_, card().copy);
    // Two parts are under way at a time: while one is copied to the host's own memory, the next comes.
    struct {
      i64 start = 0, bytes = 0;
      Staging* staging = nullptr;
    } before;
    auto finish = [&] {
      if (!before.staging) return;
      check(driver().cuEventSynchronize(before.staging->copied), "waiting for a copy");
      std::memcpy(static_cast<char*>(host) + before.start, before.staging->start, size_t(before.bytes));
    };
    for (i64 done = 0; done < bytes; done += kStaging) {
      i64 part = std::min(kStaging, bytes - done);
      auto& s = stagings_[next_++ % kStagings];
      if (s.used) check(driver().cuEventSynchronize(s.copied), "waiting for a copy");
      check(driver().cuMemcpyDtoHAsync_v2(s.start, to_address(from + done), size_t(part), card().copy), "copying out");
      check(driver().cuEventRecord(s.copied, card().copy), "recording an event");
      s.used = true;
      finish();
      before = {done, part, &s};
    }
    finish();
  }

  std::unique_ptr<Fetch> fetch(const char* from, i64 bytes) override {
    if (bytes == 0) return Memory::fetch(from, bytes);
    return std::make_unique<Coming>(*this, from, bytes);
  }

  Room room() override {
    size_t free, total;
    check(driver().cuMemGetInfo_v2(&free, &total), "asking for free memory");
    return {i64(total), i64(free)};
  }

  Stream stream() override { return card().compute; }

  // Addresses of an allocation of its own are no longer those that were recorded.
  bool records() override { return !each_ && cuda::records(); }
  void begin_recording() override { cuda::begin_recording(); }
  std::unique_ptr<Recording> end_recording(bool wanted) override { return cuda::end_recording(wanted); }

  void synchronize() override {
    wait_for(card().compute);
    wait_for(card().copy);
  }

 private:
  struct Staging {
    char* start = nullptr;
    CUevent copied = nullptr;
    bool used = false;
  };

  struct Block {
    char* start;
    Arena arena;
  };

  // One part of it is under way at a time.
  struct Coming : Fetch {
    CudaMemory& memory;
    const char* from;
    i64 done = 0;
    Staging staging;

    Coming(CudaMemory& memory, const char* from, i64 bytes)
        : Fetch(bytes), memory(memory), from(from), staging(memory.take_staging()) {
      memory.after(card().compute, memory.computed_, card().copy);
      ask();
    }
    i64 part() const { return std::min(kStaging, bytes - done); }
    void ask() {
      check(driver().cuMemcpyDtoHAsync_v2(staging.start, to_address(from + done), size_t(part()), card().copy),
            "copying out");
      check(driver().cuEventRecord(staging.copied, card().copy), "recording an event");
    }
    bool advance(char* host) override {
      if (!reached(staging.copied)) return false;
      std::memcpy(host + done, staging.start, size_t(part()));
      done += part();
      if (done < bytes) return ask(), false;
      memory.spare_.push_back(staging);
      return true;
    }
  };

  static Staging new_staging() {
    Staging s;
    void* start;
    check(driver().cuMemHostAlloc(&start, size_t(kStaging), 0), "allocating pinned memory");
    s.start = static_cast<char*>(start);
    check(driver().cuEventCreate(&s.copied, CU_EVENT_DISABLE_TIMING), "making an event");
    return s;
  }

  Staging take_staging() {
    if (spare_.empty()) return new_staging();
    Staging s = spare_.back();
    spare_.pop_back();
    return s;
  }

  // What `then` is asked from now on comes after what `first` was asked until now.
  void after(CUstream first, CUevent event, CUstream then) {
    check(driver().cuEventRecord(event, first), "recording an event");
    check(driver().cuStreamWaitEvent(then, event, 0), "waiting for an event");
  }

  char* allocate_whole(i64 bytes) {
    CUdeviceptr start;
    CUresult result = driver().cuMemAlloc_v2(&start, size_t(bytes));
    if (result == CUDA_ERROR_OUT_OF_MEMORY) throw OutOfMemory(out_of_memory(bytes));
    check(result, "allocating memory");
    return to_pointer(start);
  }

  // The driver waits for what was queued before it frees. An error of that is told where somebody waits for it.
  void release_whole(char* start) { driver().cuMemFree_v2(to_address(start)); }

  static CUmemAllocationProp kind() {
    CUmemAllocationProp kind{};
    kind.type = 1;
    kind.location = {1, driver().device};
    return kind;
  }

  static i64 granularity() {
    size_t bytes;
    auto wanted = kind();
    check(driver().cuMemGetAllocationGranularity(&bytes, &wanted, 1), "asking for the size of a page");
    return i64(bytes);
  }

  // Puts memory behind at least so many more bytes of the arena.
  void map(i64 more) {
    auto& d = driver();
    auto wanted = kind();
    Piece piece{0, i64(rounded_up(more, step_))};
    CUresult result = d.cuMemCreate(&piece.memory, size_t(piece.bytes), &wanted, 0);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) throw OutOfMemory(out_of_memory(piece.bytes));
    check(result, "allocating memory");
    CUdeviceptr at = to_address(range_.start + mapped_);
    CUmemAccessDesc access{{1, d.device}, 3};
    result = d.cuMemMap(at, size_t(piece.bytes), 0, piece.memory, 0);
    if (result == CUDA_SUCCESS) result = d.cuMemSetAccess(at, size_t(piece.bytes), &access, 1);
    if (result != CUDA_SUCCESS) d.cuMemRelease(piece.memory);
    check(result, "putting memory behind the arena");
    mapped_ += piece.bytes;
    pieces_.push_back(piece);
  }

  bool virtual_ = false;
  bool each_ = false;
  Range range_{};
  i64 step_ = 0;
  i64 mapped_ = 0;
  std::vector<Piece> pieces_;
  std::vector<Block> blocks_;
  Staging stagings_[kStagings];
  int next_ = 0;
  std::vector<Staging> spare_;  // of fetches that are done
  CUevent computed_ = nullptr, copied_ = nullptr;
};

}  // namespace

Memory& memory() {
  // Never destroyed: at the end of the process the driver may be gone before it.
  static CudaMemory& instance = *new CudaMemory;
  return instance;
}

}  // namespace tstrain::cuda
