// The seam under a device: memory, an implementation of the op table, and what each op needs beyond its arguments.
//
// To add a device: a folder like cpu/ with a DeviceKind, and its line in device.cpp.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "arena.h"
#include "repeats.h"

namespace tstrain {

struct OpTable;
struct WorkspaceTable;

// What a device queues its work on (a cudaStream_t); null where an op is done when it returns. All that a device is
// asked to do, ops and what Memory does, happens in the order of the calls.
using Stream = void*;

class Memory {
 public:
  virtual ~Memory() = default;

  struct Range {
    char* start;
    i64 bytes;
  };
  // A range of addresses for the arena. No memory need be behind it yet. `expected`: how far a plan says that the arena
  // grows; 0 where nobody has planned. A device whose arena must be of one piece answers no start, and how much there may
  // be at most, as long as nothing is known; it is asked again at the arena's first use.
  virtual Range reserve(i64 expected) = 0;
  // A stretch of that range is handed out, of which these bytes may be used, and comes back: where memory must be put
  // behind addresses, or accesses are checked. It may be handed out at another address.
  virtual char* open(char* start, i64 /*bytes*/) { return start; }
  virtual void close(char* /*start*/, i64 /*bytes*/) {}
  // What memory the first bytes of the range hold goes back to the system; the addresses stay.
  virtual void give_back(char* start, i64 bytes) = 0;

  // Memory beside the arena, for what lives long. Throws OpError when there is none.
  virtual char* allocate(i64 bytes) = 0;
  virtual void release(char* start, i64 bytes) = 0;
  // The host's memory, which ops reach too: slowly, where the device has memory of its own.
  virtual char* allocate_on_host(i64 bytes) { return allocate(bytes); }
  virtual void release_on_host(char* start, i64 bytes) { release(start, bytes); }

  // The host's bytes are taken before copy_in returns, and are there when copy_out does.
  virtual void copy_in(char* to, const void* host, i64 bytes) = 0;
  virtual void copy_out(void* host, const char* from, i64 bytes) = 0;

  // A copy out that nobody waits for.
  struct Fetch {
    const i64 bytes;
    explicit Fetch(i64 bytes) : bytes(bytes) {}
    virtual ~Fetch() = default;
    // Brings to the host what has come; whether that was the last of it. Throws OpError when what was asked before fails.
    virtual bool advance(char* host) = 0;
  };
  // Comes after all that was asked for until now. The source must stay as it is until it is there. Of a device without a
  // stream: at the first look.
  virtual std::unique_ptr<Fetch> fetch(const char* from, i64 bytes);

  // The device's own memory; nothing where it is the host's.
  struct Room {
    i64 total = 0, free = 0;
  };
  virtual Room room() { return {}; }

  virtual Stream stream() { return nullptr; }

  // Whether it can record ops instead of doing them.
  virtual bool records() { return false; }
  virtual void begin_recording() {}
  // Null where what was recorded is not `wanted`.
  virtual std::unique_ptr<Recording> end_recording(bool /*wanted*/) { return nullptr; }

  // Returns when all that was asked for is done.
  virtual void synchronize() = 0;
};

// What is known of a device without opening it: enough to plan for it.
struct DeviceKind {
  const char* name;
  // Why it cannot compute on this machine, in words for a person; empty when it can.
  std::string (*missing)();
  const OpTable& (*ops)();
  const WorkspaceTable* workspaces;
  // Bytes: where tensors of the arena start.
  i64 alignment;
  // Matrix products go in steps of so many rows; a number of rows that is a multiple of it leaves nothing over.
  i64 row_step;
  // Whether it has memory of its own, beside the host's.
  bool own_memory;
  // How many elements of slack (see TensorOf) a matrix gets that takes part in products of `type`.
  i64 (*slack)(DType type, i64 rows, i64 columns);
  // Opens it.
  Memory& (*memory)();
  // What computes there, and how products of operands of `products` are made: in words for a person.
  std::string (*description)(DType products);

  // Of a device that chooses by trying how it computes: what it has chosen so far, for the bits of its results depend on
  // it. Text for a checkpoint to keep, whose first line says on what it was tried.
  std::string (*chosen)() = nullptr;
  // Goes on with such choices. False where they were tried on something else, and are of no use.
  bool (*choose)(const std::string& chosen) = nullptr;
  // What the choosing has come to in this process, in words for a person; empty where there is nothing to tell.
  std::string (*account)() = nullptr;

  // Matrices with a row a word (embedding, head) get rows up to a multiple of it in memory, of zeros, so that lines of
  // logits start where the device likes it.
  i64 vocabulary_step = 1;
  // Rows that a product must sum over for its arithmetic to take as long as reading and writing the float32 gradient that it
  // adds to. 1: memory is no concern.
  i64 gradient_rows = 1;
};

// A device in use, or the plan of one (`meta`): the same counts, and ops that do nothing, without memory. What is
// allocated there has the address null.
class Device {
 public:
  explicit Device(const DeviceKind& kind);
  static Device plan_of(const DeviceKind& kind);

  const std::string& name() const { return name_; }
  std::string description(DType products) const { return kind_.description(products); }
  const OpTable& ops() const { return ops_; }
  const WorkspaceTable& workspaces() const { return *kind_.workspaces; }
  i64 slack(DType type, i64 rows, i64 columns) const { return kind_.slack(type, rows, columns); }
  Stream stream() const { return stream_; }

  // In the arena.
  struct Stretch {
    i64 offset = 0, bytes = 0;
    char* start = nullptr;
  };
  // `workspace`: for the time of one op only.
  Stretch arena_allocate(i64 bytes, bool workspace = false);
  void arena_release(const Stretch& stretch);
  // How far a plan says that the arena grows. To be said before it is used.
  void expect_arena(i64 bytes) { expected_ = bytes; }

  // Beside it.
  char* heap_allocate(i64 bytes);
  void heap_release(char* start, i64 bytes);
  // On the host: where the device has no memory of its own, that is beside the arena too, and counts as such.
  char* host_allocate(i64 bytes);
  void host_release(char* start, i64 bytes);

  // Throw OpError on a plan, which holds no values. copy_out() waits for what was asked of the device before.
  void copy_in(char* to, const void* host, i64 bytes);
  void copy_out(void* host, const char* from, i64 bytes);
  std::unique_ptr<Memory::Fetch> fetch(const char* from, i64 bytes);

  // What to do with work of that key (see repeats.h): call its ops, do so while they are recorded, which ends with
  // end_recording(), or nothing, for the device has been told to do it.
  enum class Next { call, record, nothing };
  Next repeat(std::string key);
  // What was recorded is done, and kept; or forgotten, where something was thrown. Throws OpError when the work has left
  // memory allocated, which work that is not called could not.
  void end_recording(bool whole);

  Memory::Room room() const { return memory_ ? memory_->room() : Memory::Room(); }
  i64 row_step() const { return kind_.row_step; }
  i64 vocabulary_step() const { return kind_.vocabulary_step; }
  i64 gradient_rows() const { return kind_.gradient_rows; }
  std::string chosen() const { return kind_.chosen ? kind_.chosen() : ""; }
  bool choose(const std::string& chosen) {
    repeats_.forget();
    return kind_.choose && kind_.choose(chosen);
  }
  std::string account() const { return kind_.account ? kind_.account() : ""; }
  const Arena& arena() const { return arena_; }
  i64 heap_bytes() const { return heap_bytes_; }
  i64 heap_high_water() const { return heap_high_water_; }
  // What it holds of the host's memory, having its own.
  i64 host_bytes() const { return host_bytes_; }
  f64 flops() const { return flops_; }
  void count_flops(f64 flops) { flops_ += flops; }
  // Starts a new measurement: FLOPs at 0, high-water marks at what is held now; a wholly free arena is given back.
  void reset_counts();

 private:
  Device(const DeviceKind& kind, std::string name, const OpTable& ops, Memory* memory);

  // Memory at `start` is handed out, or comes back.
  void held_or_not(const char* start, i64 bytes);
  // Of what is recorded, nothing but ops can be done again.
  void only_ops(const char* what) const;

  const DeviceKind& kind_;
  std::string name_;
  const OpTable& ops_;
  Memory* memory_;
  Memory::Range range_;
  i64 expected_ = 0;
  Stream stream_;
  Arena arena_;
  i64 heap_bytes_ = 0;
  i64 heap_high_water_ = 0;
  i64 host_bytes_ = 0;
  f64 flops_ = 0;           // as the op table's contracts count them
  std::uint64_t held_ = 0;  // the same when, and hardly ever else, the same memory is handed out
  Repeats repeats_;
  struct {
    Repeats::Work* work = nullptr;
    std::uint64_t held = 0;
    f64 flops = 0;
  } recording_;
};

// All of this build, those that cannot compute on this machine too; the default is the first that can.
const std::vector<const DeviceKind*>& device_kinds();
// Adds one at the end, before main(): for a build with a device from outside this directory.
bool add_device(const DeviceKind& kind);

// The device of that name or, by `meta:` in front of it, its plan, which can be had without the device. It is opened at
// its first use and lives as long as the process. Throws OpError when there is none, or something is missing.
Device& device_named(const std::string& name);

}  // namespace tstrain
