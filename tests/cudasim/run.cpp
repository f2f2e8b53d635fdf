// How accesses are judged. Each two bytes of memory have a Record of who last wrote and read them, as a stamp:
//
//   number of the block (of all blocks ever run) 25 | a copy to it is under way 1 | warp 6 | lane 6 | the thread's block
//   barriers 12 | its warp barriers 12 | which of the two bytes 2
//
// Blocks run one after the other, so all stamps of a launch are at or above that of its first block. Two accesses, at
// least one of which writes, are a race when they are of different blocks of a launch, or of different threads of a block
// with no barrier of both between them, whatever order this run happened to take. Of readers the last is kept, or that
// there were several. Epochs that no longer fit are not judged.
#include "run.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../../engine/native/cuda/driver.h"
#include "memory.h"
#include "settings.h"

// Saves what a call must keep, and goes on where another fibre did so.
extern "C" void cudasim_switch(void** from, void* to);
asm(R"(
.text
.globl cudasim_switch
.hidden cudasim_switch
.type cudasim_switch, @function
cudasim_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size cudasim_switch, .-cudasim_switch
)");

namespace cudasim {

namespace {

constexpr int kIllegalAddress = 700, kMisaligned = 716, kLaunchFailed = 719, kLaunchTimeout = 702;

constexpr u64 kBytesBits = 3, kPending = u64(1) << 38;
constexpr int kWarpEpochAt = 2, kEpochAt = 14, kLaneAt = 26, kWarpAt = 32, kBlockAt = 39;
constexpr u32 kEpochMost = 4095;
// In the place of a warp or lane: several have read.
constexpr u64 kManyLanes = 62, kManyWarps = 62, kManyBlocks = 63;
constexpr u64 kRedZone = ~u64(0);
constexpr u64 kBlocks = u64(1) << 25;

constexpr u32 kSharedMost = 256 << 10;  // room for red zones
constexpr u64 kStack = 256 << 10;

struct Fibre;

// A cp.async that has been asked for.
struct Copy {
  u64 shared, global;
  u32 bytes, from_bytes, group;
};

struct Fibre : Thread {
  void* stack_pointer;
  char* stack;
  u64 stamp;  // its own, but for the bytes
  bool done, parked;
  int waits_at;  // the site, when parked
  u32 waits_mask;
  // What it brought to a meeting of its warp, and what it took from it.
  u32 in[10];
  float in_floats[4];
  u32 out[4];
  float out_floats[4];
  bool out_flag;
  std::vector<Copy> copies;
  u32 groups;  // of copies, committed
};

struct Meeting {
  int site;
  u32 mask, came;
};

struct Warp {
  Meeting meetings[32];
  u32 count, epoch, lanes, done;
};

struct Barrier {
  u32 came, wanted, truths;  // wanted 0: all
  int site;
  std::vector<Fibre*> waiting;
};

// All of the block that runs.
struct Block {
  const Launch* launch;
  std::vector<Fibre> fibres;
  u32 count, live;
  Warp warps[32];
  Barrier barriers[16];
  u32 ready[32], ready_warps, warp, epoch;
  u64 floor;        // the stamp of the launch's first block
  u64 block_floor;  // this block's
  bool acquired;    // it has seen an atomic of other blocks, perhaps, and what they wrote before
  Dim index;
  void* main;
  Fibre* now;
  int error;
  u32 limit;  // of shared memory, red zones among it
  const Kernel* laid_out;
  u32 laid_out_dynamic;
  Random random{settings().seed};
  u64 next_number = 1, grids = 0;
};

Block& block() {
  static Block& b = *new Block{};
  return b;
}

char* shared_memory() {
  static char* start = static_cast<char*>(std::aligned_alloc(4096, kSharedMost));
  return start;
}
Record* shared_records() {
  static Record* start = static_cast<Record*>(std::calloc(kSharedMost / 2 + 16, sizeof(Record)));
  return start;
}

Fibre& fibre(Thread* t) { return *static_cast<Fibre*>(t); }

// --- faults

std::string name_of(const Fibre& f) {
  auto dims = [](Dim d) {
    return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) + ")";
  };
  return "block " + dims(f.ctaid) + " thread " + dims(f.tid);
}

std::string instruction(int site) {
  auto& sites = block().launch->kernel->code.sites;
  if (site < 0 || size_t(site) >= sites.size()) return "?";
  return "PTX line " + std::to_string(sites[size_t(site)].line) + ": " + sites[size_t(site)].text;
}

[[noreturn]] void leave_for_main() {
  auto& b = block();
  void* nowhere;
  cudasim_switch(&nowhere, b.main);
  __builtin_unreachable();
}

void tell(const Fibre& f, int site, const std::string& what) {
  std::fprintf(stderr, "cudasim: kernel %s, %s, %s: %s\n", readable(block().launch->kernel->code.name).c_str(),
               instruction(site).c_str(), name_of(f).c_str(), what.c_str());
}

// The launch ends here.
[[noreturn]] void fault(const Fibre& f, int site, int error, const std::string& what) {
  tell(f, site, what);
  block().error = error;
  leave_for_main();
}

std::string hex(u64 x) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", x);
  return text;
}

std::string bytes_at(const char* does, u32 bytes, const std::string& where) {
  return std::string(does) + " " + std::to_string(bytes) + " bytes at " + where;
}

// The thread of a stamp, as a message names it.
std::string thread_of(u64 stamp, u64 mine) {
  u64 warp = stamp >> kWarpAt & 63, lane = stamp >> kLaneAt & 63;
  if (warp == kManyBlocks) return "threads of several blocks";
  std::string of = (stamp ^ mine) >> kBlockAt ? " of another block" : "";
  if (warp == kManyWarps) return "threads of several warps" + of;
  if (lane == kManyLanes) return "several threads of warp " + std::to_string(warp) + of;
  return "thread " + std::to_string(warp * 32 + lane) + of;
}

// --- races

// Whether an access with stamp `mine`, or that of the record, writes without a barrier between them.
bool conflict(u64 theirs, u64 mine) {
  if (!(theirs & mine & kBytesBits)) return false;
  u64 difference = theirs ^ mine;
  u64 warp = theirs >> kWarpAt & 63, lane = theirs >> kLaneAt & 63;
  if (difference >> kBlockAt || warp == kManyBlocks) return !block().acquired;
  bool same_epoch = (difference >> kEpochAt & kEpochMost) == 0 && (mine >> kEpochAt & kEpochMost) != kEpochMost;
  if (warp != (mine >> kWarpAt & 63)) return same_epoch;
  if (lane == (mine >> kLaneAt & 63)) return false;
  return same_epoch && (difference >> kWarpEpochAt & kEpochMost) == 0 &&
         (mine >> kWarpEpochAt & kEpochMost) != kEpochMost;
}

// The record of two readers in one launch.
u64 both_read(u64 theirs, u64 mine) {
  constexpr u64 lane = u64(63) << kLaneAt, warp = u64(63) << kWarpAt;
  u64 difference = theirs ^ mine;
  if (difference >> kLaneAt == 0) {
    // One thread: what it read before in this epoch stays read.
    return (difference & ~kBytesBits) == 0 ? theirs | mine : mine;
  }
  if (difference >> kBlockAt || (theirs & warp) == warp) return mine | warp | kBytesBits;
  if (difference >> kEpochAt & kEpochMost) return mine;
  u64 all = mine | (theirs & kBytesBits);
  if (difference & warp) return (all & ~(warp | lane)) | kManyWarps << kWarpAt | kManyLanes << kLaneAt;
  if (difference >> kWarpEpochAt & kEpochMost) return mine;
  return (all & ~lane) | kManyLanes << kLaneAt;
}

[[noreturn]] void race(const Fibre& f, int site, const char* does, u32 bytes, const std::string& where, u64 theirs,
                       const char* they_did) {
  fault(f, site, kLaunchFailed,
        bytes_at(does, bytes, where) + ", which " + thread_of(theirs, f.stamp) + " " + they_did +
            " with no barrier between: a race");
}

u64 stamp_for(const Fibre& f, u64 address, u32 bytes) {
  return f.stamp | (bytes == 1 ? u64(1) << (address & 1) : kBytesBits);
}

// --- global memory

std::string global_place(u64 address) { return hex(address) + ", " + what_lies_at(address); }

void check_range(Fibre& f, const char* does, u64 address, u32 bytes, int site, Range* range) {
  if (address < range->start || address + bytes > range->end) {
    Range live = live_at(address);
    if (live.end == 0) fault(f, site, kIllegalAddress, bytes_at(does, bytes, global_place(address)));
    if (address + bytes > live.end)
      fault(f, site, kIllegalAddress, bytes_at(does, bytes, global_place(address) + ", and so past its end"));
    *range = live;
  }
  if (address & (bytes - 1))
    fault(f, site, kMisaligned,
          bytes_at(does, bytes, hex(address)) + ", which is not a multiple of " + std::to_string(bytes) +
              ": a misaligned address");
}

void global_read(Thread* t, u64 address, u32 bytes, int site, Range* range) {
  Fibre& f = fibre(t);
  check_range(f, "reads", address, bytes, site, range);
  Record* r = records_of(address);
  const u64 mine = stamp_for(f, address, bytes), floor = block().floor;
  for (u32 i = 0; i < bytes; i += 2, r++) {
    if (r->written >= floor && conflict(r->written, mine))
      race(f, site, "reads", bytes, global_place(address + i), r->written, "wrote");
    r->read = r->read < floor ? mine : both_read(r->read, mine);
  }
}

void global_write(Thread* t, u64 address, u32 bytes, int site, Range* range) {
  Fibre& f = fibre(t);
  check_range(f, "writes", address, bytes, site, range);
  Record* r = records_of(address);
  const u64 mine = stamp_for(f, address, bytes), floor = block().floor;
  for (u32 i = 0; i < bytes; i += 2, r++) {
    if (r->written >= floor) {
      if (conflict(r->written, mine)) race(f, site, "writes", bytes, global_place(address + i), r->written, "wrote");
      r->written = (r->written ^ mine) >> kWarpEpochAt ? mine : r->written | mine;
    } else {
      r->written = mine;
    }
    if (r->read >= floor && conflict(r->read, mine))
      race(f, site, "writes", bytes, global_place(address + i), r->read, "read");
  }
}

// --- shared memory

std::string shared_place(u64 address) {
  auto& b = block();
  auto& code = b.launch->kernel->code;
  std::string s = "shared memory ";
  const SharedVariable* nearest = nullptr;
  for (auto& v : code.shared) {
    if (address >= v.offset && (!nearest || v.offset > nearest->offset)) nearest = &v;
  }
  if (address >= code.dynamic_start && b.launch->dynamic_bytes) {
    u64 at = address - code.dynamic_start;
    s += "byte " + std::to_string(at) + " of the " + std::to_string(b.launch->dynamic_bytes) + " dynamic ones";
  } else if (nearest) {
    s += "byte " + std::to_string(address - nearest->offset) + " of the " + std::to_string(nearest->bytes) + " of " +
         readable(nearest->name);
  } else {
    s += hex(address);
  }
  return s;
}

void check_shared(Fibre& f, const char* does, u64 address, u32 bytes, int site) {
  if (address >= block().limit || address + bytes > block().limit)
    fault(f, site, kIllegalAddress, bytes_at(does, bytes, shared_place(address)) + ": out of bounds");
  if (address & (bytes - 1))
    fault(f, site, kMisaligned,
          bytes_at(does, bytes, shared_place(address)) + ", at no multiple of " + std::to_string(bytes) +
              ": a misaligned address");
}

void check_shared_record(Fibre& f, const char* does, u64 address, u32 bytes, int site, u64 written) {
  if (written == kRedZone)
    fault(f, site, kIllegalAddress, bytes_at(does, bytes, shared_place(address)) + ": out of bounds");
  if (written >= block().block_floor && (written & kPending))
    fault(f, site, kLaunchFailed,
          bytes_at(does, bytes, shared_place(address)) + ", to which a cp.async of " + thread_of(written, f.stamp) +
              " is under way: a wait is missing");
}

void shared_read(Thread* t, u64 address, u32 bytes, int site) {
  Fibre& f = fibre(t);
  check_shared(f, "reads", address, bytes, site);
  Record* r = shared_records() + address / 2;
  const u64 mine = stamp_for(f, address, bytes), floor = block().block_floor;
  for (u32 i = 0; i < bytes; i += 2, r++) {
    if (r->written < floor)
      fault(f, site, kLaunchFailed, bytes_at("reads", bytes, shared_place(address + i)) + ", which nobody has written");
    if (r->written & kPending) check_shared_record(f, "reads", address + i, bytes, site, r->written);
    if (conflict(r->written, mine)) race(f, site, "reads", bytes, shared_place(address + i), r->written, "wrote");
    r->read = r->read < floor ? mine : both_read(r->read, mine);
  }
}

void shared_write(Thread* t, u64 address, u32 bytes, int site) {
  Fibre& f = fibre(t);
  check_shared(f, "writes", address, bytes, site);
  Record* r = shared_records() + address / 2;
  const u64 mine = stamp_for(f, address, bytes), floor = block().block_floor;
  for (u32 i = 0; i < bytes; i += 2, r++) {
    if (r->written >= floor) {
      if (r->written & kPending) check_shared_record(f, "writes", address + i, bytes, site, r->written);
      if (conflict(r->written, mine)) race(f, site, "writes", bytes, shared_place(address + i), r->written, "wrote");
      r->written = (r->written ^ mine) >> kWarpEpochAt ? mine : r->written | mine;
    } else {
      r->written = mine;
    }
    if (r->read >= floor && conflict(r->read, mine))
      race(f, site, "writes", bytes, shared_place(address + i), r->read, "read");
  }
}

// --- the rest of memory

void local_access(Fibre& f, const char* does, u64 address, u32 bytes, int site) {
  if (address & (bytes - 1)) fault(f, site, kMisaligned, bytes_at(does, bytes, "local memory") + ", misaligned");
  for (auto* frame = f.frame; frame; frame = frame->outer)
    if (address >= frame->start && address + bytes <= frame->end) return;
  fault(f, site, kIllegalAddress, bytes_at(does, bytes, "local memory") + ": out of bounds");
}

void access(Thread* t, Space space, Use use, u64 address, u32 bytes, int site, Range* range) {
  Fibre& f = fibre(t);
  const char* does = use == kRead || use == kStrongRead ? "reads" : "writes";
  if (space == kGeneric) {
    u64 shared = u64(f.shared);
    bool on_stack = address >= u64(f.stack) && address < u64(f.stack) + kStack;
    if (!on_stack && block().now)
      on_stack = address >= u64(block().now->stack) && address < u64(block().now->stack) + kStack;
    if (address - shared < kSharedMost) {
      space = kShared;
      address -= shared;
    } else {
      space = on_stack ? kLocal : kGlobal;
    }
  }
  if (space == kLocal) return local_access(f, does, address, bytes, site);
  if (space == kGlobal) {
    if (use == kRead) return global_read(t, address, bytes, site, range);
    if (use == kWrite) return global_write(t, address, bytes, site, range);
    if (use == kAtomic || use == kStrongRead) block().acquired = true;
    return check_range(f, does, address, bytes, site, range);
  }
  if (use == kRead) return shared_read(t, address, bytes, site);
  if (use == kWrite) return shared_write(t, address, bytes, site);
  check_shared(f, does, address, bytes, site);
  for (u32 i = 0; i < bytes; i += 2) {
    Record& r = shared_records()[(address + i) / 2];
    check_shared_record(f, does, address + i, bytes, site, r.written);
    if (use != kStrongWrite && r.written < block().block_floor)
      fault(f, site, kLaunchFailed, bytes_at("reads", bytes, shared_place(address + i)) + ", which nobody has written");
    if (r.written < block().block_floor) r.written = stamp_for(f, address, bytes);
  }
}

// --- whose turn it is

void make_ready(Fibre& f) {
  auto& b = block();
  f.parked = false;
  b.ready[f.warp] |= 1u << f.lane;
  b.ready_warps |= 1u << f.warp;
}

u32 random_bit(u32 set, u64 random) {
  u32 turn = u32(random & 31);
  u32 turned = set >> turn | (turn ? set << (32 - turn) : 0);
  return (u32(__builtin_ctz(turned)) + turn) & 31;
}

// Mostly of the warp that ran last, so that some run far ahead of others.
Fibre* pick() {
  auto& b = block();
  if (!b.ready_warps) return nullptr;
  u64 random = b.random.next();
  if (!b.ready[b.warp] || (random >> 40 & 7) == 0) b.warp = random_bit(b.ready_warps, random >> 32);
  u32 lane = random_bit(b.ready[b.warp], random >> 48);
  b.ready[b.warp] &= ~(1u << lane);
  if (!b.ready[b.warp]) b.ready_warps &= ~(1u << b.warp);
  return &b.fibres[b.warp * 32 + lane];
}

// Others go on until somebody makes it ready.
void park(Fibre& f) {
  auto& b = block();
  Fibre* next = pick();
  if (next == &f) return;
  b.now = next;
  cudasim_switch(&f.stack_pointer, next ? next->stack_pointer : b.main);
  b.now = &f;
}

void open_barrier(Barrier& barrier) {
  auto& b = block();
  u64 epoch = b.epoch = std::min(b.epoch + 1, kEpochMost);
  for (Fibre* f : barrier.waiting) {
    f->stamp = (f->stamp & ~(u64(kEpochMost) << kEpochAt)) | epoch << kEpochAt;
    f->out[0] = barrier.truths;
    make_ready(*f);
  }
  barrier.waiting.clear();
  barrier.came = barrier.truths = 0;
}

bool complete(const Barrier& barrier) {
  return barrier.came > 0 && barrier.came >= (barrier.wanted ? barrier.wanted : block().live);
}

u32 come_to_barrier(Fibre& f, u32 id, u32 threads, bool waits, bool value, int site) {
  if (id > 15) fault(f, site, kLaunchFailed, "there are barriers 0 to 15, not " + std::to_string(id));
  if (threads % 32)
    fault(f, site, kLaunchFailed, "a barrier of " + std::to_string(threads) + " threads: no multiple of 32");
  Barrier& barrier = block().barriers[id];
  if (barrier.came > 0 && barrier.wanted == 0 && threads == 0 && barrier.site != site)
    fault(f, site, kLaunchFailed,
          "comes to a barrier while " + name_of(*barrier.waiting[0]) + " waits at another (" +
              instruction(barrier.site) + "): the block's threads have parted");
  barrier.site = site;
  barrier.wanted = threads;
  barrier.came++;
  barrier.truths += value;
  if (waits) {
    barrier.waiting.push_back(&f);
    f.parked = true;
    f.waits_at = site;
    f.waits_mask = 0;
  }
  if (complete(barrier)) open_barrier(barrier);
  if (waits) park(f);
  return f.out[0];
}

void barrier(Thread* t, u32 id, u32 threads, bool waits, int site) {
  come_to_barrier(fibre(t), id, threads, waits, false, site);
}
u32 barrier_reduce(Thread* t, u32 id, u32 threads, bool value, int site) {
  return come_to_barrier(fibre(t), id, threads, true, value, site);
}

// The thread is through.
[[noreturn]] void finish(Fibre& f) {
  auto& b = block();
  f.done = true;
  b.live--;
  b.warps[f.warp].done |= 1u << f.lane;
  for (auto& barrier : b.barriers)
    if (barrier.wanted == 0 && complete(barrier)) open_barrier(barrier);
  park(f);
  __builtin_unreachable();
}

// --- what a warp does together

using Combine = void (*)(Fibre* warp, u32 mask, int site);

// Comes to the instruction with the lanes of the mask; the last to come does it for all.
void meet(Fibre& f, u32 mask, int site, Combine combine) {
  auto& b = block();
  Warp& w = b.warps[f.warp];
  if (!(mask >> f.lane & 1)) fault(f, site, kLaunchFailed, "its own lane is not in its mask " + hex(mask));
  if (mask & w.done)
    fault(f, site, kLaunchFailed, "its mask " + hex(mask) + " has lanes " + hex(mask & w.done) + " that have ended");
  if (mask & ~w.lanes)
    fault(f, site, kLaunchFailed, "its mask " + hex(mask) + " has lanes that its block has no threads for");
  u32 i = 0;
  while (i < w.count && !(w.meetings[i].site == site && w.meetings[i].mask == mask)) i++;
  if (i == w.count) w.meetings[w.count++] = {site, mask, 0};
  Meeting& meeting = w.meetings[i];
  meeting.came |= 1u << f.lane;
  if (meeting.came == mask) {
    meeting = w.meetings[--w.count];
    combine(&b.fibres[f.warp * 32], mask, site);
    for (u32 rest = mask & ~(1u << f.lane); rest; rest &= rest - 1)
      make_ready(b.fibres[f.warp * 32 + u32(__builtin_ctz(rest))]);
    // Now and then the others come first.
    if ((b.random.next() >> 60) != 0) return;
    make_ready(f);
    return park(f);
  }
  f.parked = true;
  f.waits_at = site;
  f.waits_mask = mask;
  park(f);
}

template <class F>
void each_lane(u32 mask, F f) {
  for (; mask; mask &= mask - 1) f(u32(__builtin_ctz(mask)));
}

void warp_barrier(Thread* t, u32 mask, int site) {
  meet(fibre(t), mask, site, [](Fibre* warp, u32 mask, int) {
    Warp& w = block().warps[warp->warp];
    u64 epoch = w.epoch = std::min(w.epoch + 1, kEpochMost);
    each_lane(mask, [&](u32 i) {
      warp[i].stamp = (warp[i].stamp & ~(u64(kEpochMost) << kWarpEpochAt)) | epoch << kWarpEpochAt;
    });
  });
}

u32 shuffle(Thread* t, Shuffle mode, u32 value, u32 b, u32 c, u32 mask, bool* in_range, int site) {
  Fibre& f = fibre(t);
  f.in[0] = value;
  f.in[1] = b & 31;
  f.in[2] = c;
  f.in[3] = mode;
  meet(f, mask, site, [](Fibre* warp, u32 mask, int site) {
    each_lane(mask, [&](u32 lane) {
      Fibre& f = warp[lane];
      u32 segment = f.in[2] >> 8 & 31, clamp = f.in[2] & 31;
      i32 most = i32((lane & segment) | (clamp & ~segment)), from = 0;
      bool inside = false;
      switch (Shuffle(f.in[3])) {
        case kUp: from = i32(lane) - i32(f.in[1]), inside = from >= most; break;
        case kDown: from = i32(lane) + i32(f.in[1]), inside = from <= most; break;
        case kBfly: from = i32(lane ^ f.in[1]), inside = from <= most; break;
        case kIdx: from = i32((lane & segment) | (f.in[1] & ~segment)), inside = from <= most; break;
      }
      if (!inside) from = i32(lane);
      if (!(mask >> from & 1))
        fault(f, site, kLaunchFailed, "reads lane " + std::to_string(from) + ", which is not in its mask " + hex(mask));
      f.out[0] = warp[from].in[0];
      f.out_flag = inside;
    });
  });
  *in_range = f.out_flag;
  return f.out[0];
}

u32 vote(Thread* t, Vote mode, bool value, u32 mask, int site) {
  Fibre& f = fibre(t);
  f.in[0] = value;
  f.in[1] = mode;
  meet(f, mask, site, [](Fibre* warp, u32 mask, int) {
    u32 votes = 0;
    each_lane(mask, [&](u32 lane) { votes |= warp[lane].in[0] << lane; });
    each_lane(mask, [&](u32 lane) {
      Fibre& f = warp[lane];
      switch (Vote(f.in[1])) {
        case kAll: f.out[0] = votes == mask; break;
        case kAny: f.out[0] = votes != 0; break;
        case kUni: f.out[0] = votes == 0 || votes == mask; break;
        case kBallot: f.out[0] = votes; break;
      }
    });
  });
  return f.out[0];
}

u32 reduce(Thread* t, Reduce how, u32 value, u32 mask, int site) {
  Fibre& f = fibre(t);
  f.in[0] = value;
  f.in[1] = how;
  meet(f, mask, site, [](Fibre* warp, u32 mask, int) {
    u32 first = u32(__builtin_ctz(mask)), x = warp[first].in[0];
    auto how = Reduce(warp[first].in[1]);
    each_lane(mask & (mask - 1), [&](u32 lane) {
      u32 y = warp[lane].in[0];
      switch (how) {
        case kAdd: x += y; break;
        case kMin: x = std::min(x, y); break;
        case kMax: x = std::max(x, y); break;
        case kMinSigned: x = u32(std::min(i32(x), i32(y))); break;
        case kMaxSigned: x = u32(std::max(i32(x), i32(y))); break;
        case kAnd: x &= y; break;
        case kOr: x |= y; break;
        case kXor: x ^= y; break;
      }
    });
    each_lane(mask, [&](u32 lane) { warp[lane].out[0] = x; });
  });
  return f.out[0];
}

u32 active(Thread* t) {
  Warp& w = block().warps[fibre(t).warp];
  return w.lanes & ~w.done;
}

constexpr u32 kAllLanes = ~0u;

// The fragments of mma.m16n8k16 and m16n8k8 in the PTX manual: lane 4 g + t holds of A rows g and g + 8, columns 2 t and
// 2 t + 1 and, of the second half, 8 further; of B these as rows, column g; of C and D rows g and g + 8, columns 2 t and
// 2 t + 1. Sums are taken without rounding, which a card does not promise, and rounded once.
void multiply_matrices(Fibre* warp, u32, int) {
  const u32 k = warp[0].in[6];
  double a[16][16], b[16][8], sum[16][8];
  for (u32 lane = 0; lane < 32; lane++) {
    Fibre& f = warp[lane];
    u32 g = lane / 4, t = lane % 4;
    for (u32 i = 0; i < k / 4; i++) {
      u32 row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
      a[row][column] = from_bf16(u16(f.in[i]));
      a[row][column + 1] = from_bf16(u16(f.in[i] >> 16));
    }
    for (u32 i = 0; i < k / 8; i++) {
      b[2 * t + 8 * i][g] = from_bf16(u16(f.in[4 + i]));
      b[2 * t + 8 * i + 1][g] = from_bf16(u16(f.in[4 + i] >> 16));
    }
    for (u32 i = 0; i < 4; i++) sum[g + i / 2 * 8][2 * t + i % 2] = f.in_floats[i];
  }
  for (u32 row = 0; row < 16; row++)
    for (u32 i = 0; i < k; i++)
      for (u32 column = 0; column < 8; column++) sum[row][column] += a[row][i] * b[i][column];
  for (u32 lane = 0; lane < 32; lane++)
    for (u32 i = 0; i < 4; i++) warp[lane].out_floats[i] = float(sum[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2]);
}

void mma_bf16(Thread* t, int k, float* d, const u32* a, const u32* b, const float* c, int site) {
  Fibre& f = fibre(t);
  std::memcpy(f.in, a, size_t(k));
  std::memcpy(f.in + 4, b, size_t(k) / 2);
  f.in[6] = u32(k);
  std::memcpy(f.in_floats, c, sizeof f.in_floats);
  meet(f, kAllLanes, site, multiply_matrices);
  std::memcpy(d, f.out_floats, sizeof f.out_floats);
}

// Lane 8 i + r says where row r of matrix i lies; lane 4 r + c gets of each its row r, elements 2 c and 2 c + 1, or of
// the transposed one.
void ldmatrix(Thread* t, int count, bool transposed, u32* d, u64 address, int site, bool check) {
  Fibre& f = fibre(t);
  f.in[0] = u32(count);
  f.in[1] = transposed;
  f.in[2] = u32(address);
  f.in[3] = u32(address >> 32);
  if (check && f.lane < 8 * u32(count)) shared_read(t, address, 16, site);
  meet(f, kAllLanes, site, [](Fibre* warp, u32, int) {
    auto element = [&](u32 matrix, u32 row, u32 column) {
      Fibre& f = warp[8 * matrix + row];
      return get<u16>(f.shared + (u64(f.in[3]) << 32 | f.in[2]) + 2 * column);
    };
    for (u32 lane = 0; lane < 32; lane++) {
      for (u32 i = 0; i < warp[lane].in[0]; i++) {
        u32 row = lane / 4, column = lane % 4 * 2;
        bool turned = warp[lane].in[1] != 0;
        u16 low = turned ? element(i, column, row) : element(i, row, column);
        u16 high = turned ? element(i, column + 1, row) : element(i, row, column + 1);
        warp[lane].out[i] = u32(high) << 16 | low;
      }
    }
  });
  std::memcpy(d, f.out, 4 * size_t(count));
}

// --- cp.async: the bytes come when they are waited for, and no earlier

void copy_async(Thread* t, u64 shared, u64 global, u32 bytes, u32 from_bytes, int site, bool check, Range* range) {
  Fibre& f = fibre(t);
  from_bytes = std::min(from_bytes, bytes);
  if (check) {
    if (from_bytes && (from_bytes & (from_bytes - 1)) == 0) global_read(t, global, from_bytes, site, range);
    else
      for (u32 i = 0; i < from_bytes; i++) global_read(t, global + i, 1, site, range);
    if (from_bytes && global % bytes)
      fault(f, site, kMisaligned, bytes_at("copies", bytes, hex(global)) + ", which is no multiple of that");
    shared_write(t, shared, bytes, site);
    for (u32 i = 0; i < bytes; i += 2) shared_records()[(shared + i) / 2].written |= kPending;
  }
  f.copies.push_back({shared, global, bytes, from_bytes, f.groups});
}

void finish_copies(Fibre& f, u32 groups) {
  size_t n = 0;
  while (n < f.copies.size() && f.copies[n].group < groups) {
    Copy& c = f.copies[n++];
    char* to = f.shared + c.shared;
    std::memcpy(to, reinterpret_cast<const void*>(c.global), c.from_bytes);
    std::memset(to + c.from_bytes, 0, c.bytes - c.from_bytes);
    if (settings().check)
      for (u32 i = 0; i < c.bytes; i += 2) shared_records()[(c.shared + i) / 2].written = f.stamp | kBytesBits;
  }
  f.copies.erase(f.copies.begin(), f.copies.begin() + long(n));
}

void copy_commit(Thread* t) { fibre(t).groups++; }
void copy_wait(Thread* t, u32 pending) {
  Fibre& f = fibre(t);
  if (f.groups > pending) finish_copies(f, f.groups - pending);
}
void copy_wait_all(Thread* t) { finish_copies(fibre(t), ~0u); }

void trap(Thread* t, const char* why, int site) { fault(fibre(t), site, kLaunchFailed, why); }

const Runtime runtime = {access,       global_read, global_write, shared_read,   shared_write, barrier,  barrier_reduce,
                         warp_barrier, shuffle,     vote,         reduce,        active,       mma_bf16, ldmatrix,
                         copy_async,   copy_commit, copy_wait,    copy_wait_all, trap};

// --- blocks

void start() {
  Fibre& f = *block().now;
  block().launch->kernel->run(&f);
  finish(f);
}

// No thread waits for another: they run to their ends, one after the other.
void start_alone() {
  auto& b = block();
  static std::vector<u32> order;
  if (order.size() != b.count) {
    order.resize(b.count);
    for (u32 i = 0; i < b.count; i++) order[i] = i;
  }
  for (u32 i = b.count; i > 1; i--) std::swap(order[i - 1], order[b.random.below(i)]);
  for (u32 i : order) b.launch->kernel->run(&b.fibres[i]);
  leave_for_main();
}

void prepare(Fibre& f, void (*entry)()) {
  auto* top = reinterpret_cast<u64*>(f.stack + kStack) - 2;
  top[0] = u64(entry);
  f.stack_pointer = top - 6;
}

void make_fibres(u32 count) {
  auto& b = block();
  if (b.fibres.empty()) b.fibres.resize(1024);
  for (u32 i = 0; i < count; i++) {
    Fibre& f = b.fibres[i];
    if (f.stack) continue;
    void* memory =
        mmap(nullptr, kStack + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, 4096, PROT_NONE) != 0) {
      std::perror("cudasim: a stack");
      std::exit(1);
    }
    f.stack = static_cast<char*>(memory) + 4096;
  }
}

// Where variables lie, and where none does.
void lay_out_shared() {
  auto& b = block();
  auto& l = *b.launch;
  auto& code = l.kernel->code;
  b.limit = code.dynamic_start + l.dynamic_bytes;
  if (!settings().check || (b.laid_out == l.kernel && b.laid_out_dynamic == l.dynamic_bytes)) return;
  b.laid_out = l.kernel;
  b.laid_out_dynamic = l.dynamic_bytes;
  Record* records = shared_records();
  std::fill(records, records + kSharedMost / 2, Record{0, 0});
  std::fill(records, records + code.dynamic_start / 2, Record{kRedZone, 0});
  for (auto& v : code.shared) std::fill(records + v.offset / 2, records + (v.offset + v.bytes + 1) / 2, Record{0, 0});
}

void tell_deadlock() {
  auto& b = block();
  for (u32 i = 0, told = 0; i < b.count && told < 3; i++) {
    Fibre& f = b.fibres[i];
    if (f.done || !f.parked) continue;
    bool new_place = true;
    for (u32 j = 0; j < i; j++)
      new_place &= !b.fibres[j].parked || b.fibres[j].done || b.fibres[j].waits_at != f.waits_at;
    if (!new_place) continue;
    told++;
    tell(f, f.waits_at,
         f.waits_mask ? "waits for the lanes of its mask " + hex(f.waits_mask) + ", and they never all come"
                      : "waits at a barrier, and the others never all come");
  }
}

void run_block(Dim index) {
  auto& b = block();
  auto& l = *b.launch;
  b.index = index;
  b.block_floor = b.next_number++ << kBlockAt;
  b.live = b.count;
  b.acquired = false;
  b.epoch = 0;
  b.now = nullptr;
  std::memset(shared_memory(), settings().poison, b.limit);
  for (u32 i = 0; i < b.count; i++) {
    Fibre& f = b.fibres[i];
    f.ctaid = index;
    f.stamp = b.block_floor | u64(f.warp) << kWarpAt | u64(f.lane) << kLaneAt;
    f.copies.clear();
    f.groups = 0;
    f.frame = nullptr;
  }
  if (!l.kernel->code.meets) {
    prepare(b.fibres[0], start_alone);
    b.now = &b.fibres[0];
    cudasim_switch(&b.main, b.fibres[0].stack_pointer);
    return;
  }
  for (auto& barrier : b.barriers) {
    barrier.waiting.clear();
    barrier.came = barrier.wanted = barrier.truths = 0;
  }
  b.ready_warps = 0;
  for (u32 i = 0; i < b.count; i++) {
    Fibre& f = b.fibres[i];
    f.done = f.parked = false;
    prepare(f, start);
    if (f.lane == 0) {
      Warp& w = b.warps[f.warp];
      w.count = w.epoch = w.done = 0;
      w.lanes = b.count - i >= 32 ? ~0u : (1u << (b.count - i)) - 1;
      b.ready[f.warp] = 0;
    }
    make_ready(f);
  }
  b.warp = b.fibres[b.random.below(b.count)].warp;
  Fibre* first = pick();
  b.now = first;
  cudasim_switch(&b.main, first->stack_pointer);
  if (b.error == 0 && b.live > 0) {
    tell_deadlock();
    b.error = kLaunchTimeout;
  }
}

}  // namespace

u32 most_shared_bytes() {
  int arch = settings().arch;
  return u32(arch == 80 ? 163 : arch == 90 || arch == 100 ? 227 : 99) << 10;
}

int run(const Launch& l) {
  auto& b = block();
  compile(*l.kernel, runtime);
  b.launch = &l;
  b.count = l.block.x * l.block.y * l.block.z;
  b.error = 0;
  b.grids++;
  u64 blocks = u64(l.grid.x) * l.grid.y * l.grid.z;
  if (blocks >= kBlocks) {
    std::fprintf(stderr, "cudasim: kernel %s: a grid of %llu blocks is more than is simulated\n",
                 readable(l.kernel->code.name).c_str(), blocks);
    std::abort();
  }
  if (b.next_number + blocks >= kBlocks) {
    clear_records();
    b.laid_out = nullptr;
    b.next_number = 1;
  }
  if (l.kernel->deaths != deaths()) {
    l.kernel->deaths = deaths();
    std::fill(l.kernel->ranges, l.kernel->ranges + l.kernel->code.sites.size(), Range{0, 0});
  }
  make_fibres(b.count);
  lay_out_shared();
  for (u32 i = 0; i < b.count; i++) {
    Fibre& f = b.fibres[i];
    f.parameters = l.parameters.data();
    f.shared = shared_memory();
    f.tid = {i % l.block.x, i / l.block.x % l.block.y, i / l.block.x / l.block.y};
    f.ntid = l.block;
    f.nctaid = l.grid;
    f.lane = i % 32;
    f.warp = i / 32;
    f.dynamic_shared_bytes = l.dynamic_bytes;
    f.grid = b.grids;
  }
  b.floor = b.next_number << kBlockAt;
  std::vector<u32> order(blocks);
  for (u32 i = 0; i < blocks; i++) order[i] = i;
  for (u32 i = u32(blocks); i > 1; i--) std::swap(order[i - 1], order[b.random.below(i)]);
  for (u32 i : order) {
    run_block({i % l.grid.x, i / l.grid.x % l.grid.y, u32(i / (u64(l.grid.x) * l.grid.y))});
    if (b.error != 0) break;
  }
  b.launch = nullptr;
  return b.error;
}

}  // namespace cudasim
