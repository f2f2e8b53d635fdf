#include "device.h"

#include <algorithm>
#include <limits>
#include <memory>

#include "cpu/cpu.h"
#include "cuda/cuda.h"
#include "meta/meta.h"
#include "ops.h"

namespace tstrain {

namespace {

const std::string kPlan = "meta:";

Memory::Range range_of(Memory* memory) {
  // A plan may be larger than any machine.
  return memory ? memory->reserve(0) : Memory::Range{nullptr, std::numeric_limits<i64>::max()};
}

std::vector<const DeviceKind*>& kinds() {
  static std::vector<const DeviceKind*> all{&cuda_device, &cpu_device};
  return all;
}

}  // namespace

std::unique_ptr<Memory::Fetch> Memory::fetch(const char* from, i64 bytes) {
  struct AtOnce : Fetch {
    Memory& memory;
    const char* from;
    AtOnce(Memory& memory, const char* from, i64 bytes) : Fetch(bytes), memory(memory), from(from) {}
    bool advance(char* host) override {
      if (bytes > 0) memory.copy_out(host, from, bytes);
      return true;
    }
  };
  return std::make_unique<AtOnce>(*this, from, bytes);
}

Device::Device(const DeviceKind& kind, std::string name, const OpTable& ops, Memory* memory)
    : kind_(kind),
      name_(std::move(name)),
      ops_(ops),
      memory_(memory),
      range_(range_of(memory)),
      stream_(memory ? memory->stream() : nullptr),
      arena_(range_.bytes, kind.alignment) {}

Device::Device(const DeviceKind& kind) : Device(kind, kind.name, kind.ops(), &kind.memory()) {}

Device Device::plan_of(const DeviceKind& kind) { return Device(kind, kPlan + kind.name, meta_table, nullptr); }

Device::Stretch Device::arena_allocate(i64 bytes, bool workspace) {
  if (memory_ && !range_.start) {
    // Where nobody has planned, what is not in the arena gets as much as the arena.
    range_ = memory_->reserve(expected_ > 0 ? expected_ : memory_->room().free / 2);
    arena_.reserve(range_.bytes);
  }
  Stretch stretch{arena_.allocate(bytes, workspace), bytes};
  if (!memory_) return stretch;
  try {
    stretch.start = memory_->open(range_.start + stretch.offset, bytes);
  } catch (...) {
    arena_.release(stretch.offset, bytes);
    throw;
  }
  held_or_not(stretch.start, bytes);
  return stretch;
}

void Device::arena_release(const Stretch& stretch) {
  held_or_not(stretch.start, stretch.bytes);
  if (memory_) memory_->close(stretch.start, stretch.bytes);
  arena_.release(stretch.offset, stretch.bytes);
}

char* Device::heap_allocate(i64 bytes) {
  only_ops("memory that lives long");
  bytes = std::max<i64>(bytes, 1);
  char* start = memory_ ? memory_->allocate(bytes) : nullptr;
  held_or_not(start, bytes);
  heap_bytes_ += bytes;
  heap_high_water_ = std::max(heap_high_water_, heap_bytes_);
  return start;
}

void Device::heap_release(char* start, i64 bytes) {
  bytes = std::max<i64>(bytes, 1);
  heap_bytes_ -= bytes;
  held_or_not(start, bytes);
  if (memory_) memory_->release(start, bytes);
}

char* Device::host_allocate(i64 bytes) {
  if (!kind_.own_memory) return heap_allocate(bytes);
  bytes = std::max<i64>(bytes, 1);
  char* start = memory_ ? memory_->allocate_on_host(bytes) : nullptr;
  held_or_not(start, bytes);
  host_bytes_ += bytes;
  return start;
}

void Device::host_release(char* start, i64 bytes) {
  if (!kind_.own_memory) return heap_release(start, bytes);
  bytes = std::max<i64>(bytes, 1);
  host_bytes_ -= bytes;
  held_or_not(start, bytes);
  if (memory_) memory_->release_on_host(start, bytes);
}

void Device::copy_in(char* to, const void* host, i64 bytes) {
  only_ops("a copy");
  if (!memory_) throw OpError(name_ + " holds no values");
  if (bytes > 0) memory_->copy_in(to, host, bytes);
}

void Device::copy_out(void* host, const char* from, i64 bytes) {
  only_ops("a copy");
  if (!memory_) throw OpError(name_ + " holds no values");
  memory_->synchronize();
  if (bytes > 0) memory_->copy_out(host, from, bytes);
}

std::unique_ptr<Memory::Fetch> Device::fetch(const char* from, i64 bytes) {
  only_ops("a copy");
  if (!memory_) throw OpError(name_ + " holds no values");
  return memory_->fetch(from, bytes);
}

Device::Next Device::repeat(std::string key) {
  if (!memory_ || !memory_->records() || recording_.work) return Next::call;
  key.append(reinterpret_cast<const char*>(&held_), sizeof held_);
  auto* work = repeats_.seen(key);
  if (!work) return Next::call;
  if (work->recording) {
    work->recording->replay();
    flops_ += work->flops;
    return Next::nothing;
  }
  memory_->begin_recording();
  recording_ = {work, held_, flops_};
  return Next::record;
}

void Device::end_recording(bool whole) {
  if (!recording_.work) throw OpError("nothing is recorded");
  auto [work, held, flops] = recording_;
  recording_ = {};
  bool kept = whole && held_ == held;
  work->recording = memory_->end_recording(kept);
  if (!kept && whole) throw OpError("work that is recorded has left memory allocated, or released other memory");
  work->flops = flops_ - flops;
  if (kept) work->recording->replay();
}

void Device::held_or_not(const char* start, i64 bytes) {
  // splitmix64's last steps; by exclusive or, what comes back cancels out.
  std::uint64_t x = reinterpret_cast<std::uintptr_t>(start) * 0x9e3779b97f4a7c15ull + std::uint64_t(bytes);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  held_ ^= x ^ (x >> 31);
}

void Device::only_ops(const char* what) const {
  if (recording_.work) throw OpError(std::string(what) + " cannot be recorded");
}

void Device::reset_counts() {
  only_ops("a new measurement");
  flops_ = 0;
  heap_high_water_ = heap_bytes_;
  arena_.reset_high_water();
  if (arena_.in_use() > 0) return;
  if (memory_ && arena_.touched() > 0) {
    repeats_.forget();
    memory_->give_back(range_.start, arena_.touched());
  }
  arena_.trimmed();
}

const std::vector<const DeviceKind*>& device_kinds() { return kinds(); }

bool add_device(const DeviceKind& kind) {
  kinds().push_back(&kind);
  return true;
}

Device& device_named(const std::string& name) {
  static std::vector<std::unique_ptr<Device>> open;
  for (auto& device : open)
    if (device->name() == name) return *device;
  for (auto* kind : kinds()) {
    if (name == kind->name) {
      if (auto missing = kind->missing(); !missing.empty()) throw OpError(name + " cannot be used: " + missing);
      open.emplace_back(new Device(*kind));
    } else if (name == kPlan + kind->name) open.emplace_back(new Device(Device::plan_of(*kind)));
    else continue;
    return *open.back();
  }
  throw OpError("no device is called " + name);
}

}  // namespace tstrain
