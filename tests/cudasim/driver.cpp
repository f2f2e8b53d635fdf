// libcuda.so.1 as the simulated card has it: the functions of engine/native/cuda/driver.h, and cudasim.h's.
//
// Streams run as late as they may: what is queued happens when somebody waits for it, so that a wait that is missing
// shows. One lock: the simulator computes in one thread at a time.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "../../engine/native/cuda/driver.h"
#include "cudasim.h"
#include "memory.h"
#include "module.h"
#include "run.h"
#include "settings.h"

// What driver.h's handles point at.
namespace tstrain::cuda {

// A place in a stream: whether what came before it has happened.
struct Mark {
  CUstream_st* stream;
  bool done = false;
  std::chrono::steady_clock::time_point when{};
};

struct Task {
  std::shared_ptr<Mark> mark;     // which it reaches, or
  std::shared_ptr<Mark> awaited;  // which it waits for, or
  std::function<CUresult()> run;
};

struct CUgraph_st {
  std::vector<std::function<CUresult()>> work;
};

struct CUgraphExec_st {
  std::vector<std::function<CUresult()>> work;
};

struct CUstream_st {
  bool blocking = false;  // waits for the default stream, and it for this one
  std::deque<Task> tasks;
  std::unique_ptr<CUgraph_st> captured;  // while it is
  bool invalidated = false;              // what is captured: somebody wanted what cannot be
};

struct CUevent_st {
  bool timed = true;
  std::shared_ptr<Mark> mark;
};

struct CUctx_st {};

}  // namespace tstrain::cuda

using namespace tstrain::cuda;
using cudasim::settings;

namespace {

constexpr CUresult kInvalidValue = 1, kNotInitialized = 3, kInvalidDevice = 101, kInvalidContext = 201,
                   kIllegalAddress = 700, kInvalidHandle = 400, kNotFound = 500, kCaptureUnsupported = 900,
                   kCaptureInvalidated = 901, kIllegalState = 401, kUnknown = 999;
// A real queue is full at about as much, and then whoever queues waits.
constexpr size_t kQueue = 1024;

struct State {
  std::recursive_mutex lock;
  bool started = false;
  CUresult error = CUDA_SUCCESS;  // of something that ran: all that comes after returns it
  CUctx_st context;
  CUstream_st default_stream;
  std::set<CUstream> streams;
  std::set<CUevent> events;
  std::set<CUmodule> modules;
  std::set<CUgraph> graphs;
  std::set<CUgraphExec> ready_graphs;
  std::set<CUfunction> functions;
  uint64_t calls = 0, launches = 0, graph_launches = 0, allocations = 0, loads = 0;
  cudasim::Random random{settings().seed ^ 0x5eed};
};

State& state() {
  static State& s = *new State;
  return s;
}

thread_local CUcontext current = nullptr;

struct Named {
  CUresult error;
  const char *name, *text;
};
constexpr Named kErrors[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {401, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

// --- what each call begins with

// A card that falls off fails all that comes after.
CUresult counted() {
  auto& s = state();
  if (settings().lost_after && ++s.calls > settings().lost_after) {
    if (s.error == CUDA_SUCCESS) std::fprintf(stderr, "cudasim: the card is lost (CUDASIM_FAIL=lost)\n");
    s.error = kUnknown;
  }
  return s.error;
}

#define BEGIN                                               \
  std::lock_guard<std::recursive_mutex> lock(state().lock); \
  if (!state().started) return kNotInitialized;             \
  if (CUresult failed = counted(); failed != CUDA_SUCCESS) return failed
#define BEGIN_IN_CONTEXT \
  BEGIN;                 \
  if (!current) return kInvalidContext

// --- streams

void run_front(CUstream_st& stream);

void run_until(Mark& mark) {
  while (!mark.done && !mark.stream->tasks.empty()) run_front(*mark.stream);
}

void run_front(CUstream_st& stream) {
  auto& s = state();
  Task task = std::move(stream.tasks.front());
  stream.tasks.pop_front();
  if (task.awaited) run_until(*task.awaited);
  if (task.run && s.error == CUDA_SUCCESS) {
    CUresult result = task.run();
    if (s.error == CUDA_SUCCESS) s.error = result;
  }
  if (task.mark) {
    task.mark->done = true;
    task.mark->when = std::chrono::steady_clock::now();
  }
}

// Runs one thing that keeps a mark from being reached.
void run_one_before(Mark& mark) {
  auto& next = mark.stream->tasks.front();
  if (next.awaited && !next.awaited->done) return run_one_before(*next.awaited);
  run_front(*mark.stream);
}

void run_all(CUstream_st& stream) {
  while (!stream.tasks.empty()) run_front(stream);
}

void run_everything() {
  auto& s = state();
  run_all(s.default_stream);
  for (CUstream stream : s.streams) run_all(*stream);
}

CUstream_st* find(CUstream stream) {
  if (!stream) return &state().default_stream;
  return state().streams.count(stream) ? stream : nullptr;
}

void push(CUstream_st& stream, Task task) {
  stream.tasks.push_back(std::move(task));
  if (stream.tasks.size() > kQueue) run_front(stream);
}

std::shared_ptr<Mark> mark_of(CUstream_st& stream) {
  auto mark = std::make_shared<Mark>();
  mark->stream = &stream;
  push(stream, {mark, nullptr, {}});
  return mark;
}

void wait_for(CUstream_st& stream, std::shared_ptr<Mark> mark) { push(stream, {nullptr, std::move(mark), {}}); }

// The default stream and the blocking ones wait for each other.
void enqueue(CUstream_st& stream, std::function<CUresult()> run) {
  auto& s = state();
  if (stream.captured) return stream.captured->work.push_back(std::move(run));
  if (&stream == &s.default_stream) {
    for (CUstream other : s.streams)
      if (other->blocking && !other->tasks.empty()) wait_for(stream, mark_of(*other));
  } else if (stream.blocking && !s.default_stream.tasks.empty()) {
    wait_for(stream, mark_of(s.default_stream));
  }
  push(stream, {nullptr, nullptr, std::move(run)});
}

// --- memory

bool all_live(const char* what, CUdeviceptr start, size_t bytes) {
  if (cudasim::is_live(start, bytes)) return true;
  std::fprintf(stderr, "cudasim: %s: %zu bytes at 0x%llx are not all memory of the card: it begins %s\n", what, bytes,
               start, cudasim::what_lies_at(start).c_str());
  return false;
}

// Host memory that a copy uses while the host goes on.
bool still_pinned(const char* what, const void* start, size_t bytes) {
  if (cudasim::is_pinned(start, bytes)) return true;
  std::fprintf(stderr, "cudasim: %s: the pinned host memory at %p was freed before the copy ran\n", what, start);
  return false;
}

char* at(CUdeviceptr address) { return reinterpret_cast<char*>(address); }

// --- modules

int newest_ptx(int driver) {
  int major = driver / 1000, minor = driver % 1000 / 10;
  if (major >= 13) return 90 + minor;
  if (major == 11) return 70 + minor;
  // CUDA 12.5 and 12.6 have PTX 8.5.
  return 80 + (minor <= 5 ? minor : minor - 1);
}

// After a failure nothing can be freed any more.
void at_exit() {
  if (state().error == CUDA_SUCCESS) cudasim::tell_leaks();
}

}  // namespace

#define API extern "C" __attribute__((visibility("default")))

// --- the driver

API CUresult cuInit(unsigned flags) {
  auto& s = state();
  std::lock_guard<std::recursive_mutex> lock(s.lock);
  if (flags != 0) return kInvalidValue;
  if (settings().devices == 0) return CUDA_ERROR_NO_DEVICE;
  if (!s.started && settings().leaks) std::atexit(at_exit);
  s.started = true;
  return CUDA_SUCCESS;
}

API CUresult cuDriverGetVersion(int* version) {
  if (!version) return kInvalidValue;
  *version = settings().driver_version;
  return CUDA_SUCCESS;
}

API CUresult cuGetErrorName(CUresult error, const char** name) {
  for (auto& e : kErrors)
    if (e.error == error) return *name = e.name, CUDA_SUCCESS;
  *name = nullptr;
  return kInvalidValue;
}

API CUresult cuGetErrorString(CUresult error, const char** text) {
  for (auto& e : kErrors)
    if (e.error == error) return *text = e.text, CUDA_SUCCESS;
  *text = nullptr;
  return kInvalidValue;
}

// A real NVRTC asks for tables of the driver's own when it finds one in its process. The first word is a table's size:
// these have nothing else.
API CUresult cuGetExportTable(const void** table, const void*) {
  static const size_t empty = sizeof(size_t);
  *table = &empty;
  return CUDA_SUCCESS;
}

API CUresult cuDeviceGetCount(int* count) {
  BEGIN;
  *count = settings().devices;
  return CUDA_SUCCESS;
}

API CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  BEGIN;
  if (ordinal < 0 || ordinal >= settings().devices) return kInvalidDevice;
  *device = ordinal;
  return CUDA_SUCCESS;
}

API CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  BEGIN;
  if (device < 0 || device >= settings().devices) return kInvalidDevice;
  std::snprintf(name, size_t(length), "cudasim sm_%d", settings().arch);
  return CUDA_SUCCESS;
}

API CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  BEGIN;
  if (device < 0 || device >= settings().devices) return kInvalidDevice;
  int arch = settings().arch;
  switch (int(attribute)) {
    case 1: *value = 1024; break;      // threads of a block
    case 8: *value = 48 << 10; break;  // its shared memory, when nothing more is asked for
    case 10: *value = 32; break;       // threads of a warp
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      *value = arch == 80 ? 108 : arch == 86 ? 84 : arch == 89 ? 128 : arch == 90 ? 132 : arch == 100 ? 148 : 170;
      break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = arch / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = arch % 10; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = int(cudasim::most_shared_bytes()); break;
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED: *value = settings().manages_virtual_memory; break;
    default:
      std::fprintf(stderr, "cudasim: cuDeviceGetAttribute: attribute %d is not simulated\n", int(attribute));
      return kInvalidValue;
  }
  return CUDA_SUCCESS;
}

API CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  BEGIN;
  if (device < 0 || device >= settings().devices) return kInvalidDevice;
  *bytes = settings().memory;
  return CUDA_SUCCESS;
}

API CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  BEGIN;
  if (device < 0 || device >= settings().devices) return kInvalidDevice;
  *context = &state().context;
  return CUDA_SUCCESS;
}

API CUresult cuCtxSetCurrent(CUcontext context) {
  BEGIN;
  if (context && context != &state().context) return kInvalidContext;
  current = context;
  return CUDA_SUCCESS;
}

// --- memory

API CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  BEGIN_IN_CONTEXT;
  *free = cudasim::free_bytes();
  *total = settings().memory;
  return CUDA_SUCCESS;
}

static bool allocation_fails() { return ++state().allocations == settings().fail_alloc; }

API CUresult cuMemAlloc_v2(CUdeviceptr* start, size_t bytes) {
  BEGIN_IN_CONTEXT;
  if (!start) return kInvalidValue;
  if (allocation_fails()) return CUDA_ERROR_OUT_OF_MEMORY;
  return cudasim::allocate(start, bytes, "cuMemAlloc");
}

// Waits for all that was queued, as the real one does.
API CUresult cuMemFree_v2(CUdeviceptr start) {
  BEGIN_IN_CONTEXT;
  run_everything();
  if (state().error != CUDA_SUCCESS) return state().error;
  CUresult result = cudasim::release(start);
  if (result != CUDA_SUCCESS)
    std::fprintf(stderr, "cudasim: cuMemFree: 0x%llx lies %s\n", start, cudasim::what_lies_at(start).c_str());
  return result;
}

API CUresult cuMemHostAlloc(void** start, size_t bytes, unsigned) {
  BEGIN_IN_CONTEXT;
  if (!start || bytes == 0) return kInvalidValue;
  *start = cudasim::allocate_pinned(bytes);
  return *start ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

API CUresult cuMemFreeHost(void* start) {
  BEGIN_IN_CONTEXT;
  return cudasim::release_pinned(start) ? CUDA_SUCCESS : kInvalidValue;
}

// From pinned memory the bytes are taken when the copy runs; the driver puts those of other memory aside at once.
API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  BEGIN_IN_CONTEXT;
  auto* queue = find(stream);
  if (!queue) return kInvalidHandle;
  if (!all_live("cuMemcpyHtoDAsync", to, bytes)) return kInvalidValue;
  if (bytes == 0) return CUDA_SUCCESS;
  bool pinned = cudasim::is_pinned(from, bytes);
  std::shared_ptr<std::string> aside;
  if (!pinned) aside = std::make_shared<std::string>(static_cast<const char*>(from), bytes);
  enqueue(*queue, [=]() -> CUresult {
    if (!all_live("a copy to the card", to, bytes)) return kIllegalAddress;
    if (pinned && !still_pinned("a copy to the card", from, bytes)) return kIllegalAddress;
    std::memcpy(at(to), aside ? aside->data() : from, bytes);
    return CUDA_SUCCESS;
  });
  return CUDA_SUCCESS;
}

API CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  BEGIN_IN_CONTEXT;
  auto* queue = find(stream);
  if (!queue) return kInvalidHandle;
  if (!all_live("cuMemcpyDtoHAsync", from, bytes)) return kInvalidValue;
  if (bytes == 0) return CUDA_SUCCESS;
  bool pinned = cudasim::is_pinned(to, bytes);
  enqueue(*queue, [=]() -> CUresult {
    if (!all_live("a copy to the host", from, bytes)) return kIllegalAddress;
    if (pinned && !still_pinned("a copy to the host", to, bytes)) return kIllegalAddress;
    std::memcpy(to, at(from), bytes);
    return CUDA_SUCCESS;
  });
  // To other memory it is done when this returns.
  if (!pinned) run_all(*queue);
  return state().error;
}

API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  BEGIN_IN_CONTEXT;
  auto* queue = find(stream);
  if (!queue) return kInvalidHandle;
  if (!all_live("cuMemcpyDtoDAsync", from, bytes) || !all_live("cuMemcpyDtoDAsync", to, bytes)) return kInvalidValue;
  enqueue(*queue, [=]() -> CUresult {
    if (!all_live("a copy on the card", from, bytes) || !all_live("a copy on the card", to, bytes))
      return kIllegalAddress;
    if (bytes && from < to + bytes && to < from + bytes) {
      std::fprintf(stderr, "cudasim: a copy on the card from 0x%llx to 0x%llx of %zu bytes: they overlap\n", from, to,
                   bytes);
      return kIllegalAddress;
    }
    std::memcpy(at(to), at(from), bytes);
    return CUDA_SUCCESS;
  });
  return CUDA_SUCCESS;
}

API CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
  BEGIN_IN_CONTEXT;
  auto* queue = find(stream);
  if (!queue) return kInvalidHandle;
  if (!all_live("cuMemsetD8Async", to, bytes)) return kInvalidValue;
  enqueue(*queue, [=]() -> CUresult {
    if (!all_live("a memset", to, bytes)) return kIllegalAddress;
    std::memset(at(to), value, bytes);
    return CUDA_SUCCESS;
  });
  return CUDA_SUCCESS;
}

// --- virtual memory

#define BEGIN_VIRTUAL \
  BEGIN_IN_CONTEXT;   \
  if (!settings().manages_virtual_memory) return CUDA_ERROR_NOT_SUPPORTED

static bool is_pinned_device_memory(const CUmemAllocationProp* kind) {
  return kind && kind->type == 1 && kind->location.type == 1 && kind->location.id >= 0 &&
         kind->location.id < settings().devices;
}

API CUresult cuMemAddressReserve(CUdeviceptr* start, size_t bytes, size_t alignment, CUdeviceptr,
                                 unsigned long long flags) {
  BEGIN_VIRTUAL;
  if (!start || flags != 0) return kInvalidValue;
  return cudasim::reserve(start, bytes, alignment);
}

API CUresult cuMemAddressFree(CUdeviceptr start, size_t bytes) {
  BEGIN_VIRTUAL;
  return cudasim::unreserve(start, bytes);
}

API CUresult cuMemGetAllocationGranularity(size_t* bytes, const CUmemAllocationProp* kind, int) {
  BEGIN_VIRTUAL;
  if (!is_pinned_device_memory(kind)) return kInvalidValue;
  *bytes = cudasim::kGranularity;
  return CUDA_SUCCESS;
}

API CUresult cuMemCreate(CUmemGenericAllocationHandle* memory, size_t bytes, const CUmemAllocationProp* kind,
                         unsigned long long flags) {
  BEGIN_VIRTUAL;
  if (!memory || flags != 0 || !is_pinned_device_memory(kind)) return kInvalidValue;
  if (allocation_fails()) return CUDA_ERROR_OUT_OF_MEMORY;
  return cudasim::create(memory, bytes);
}

API CUresult cuMemRelease(CUmemGenericAllocationHandle memory) {
  BEGIN_VIRTUAL;
  return cudasim::release_handle(memory);
}

API CUresult cuMemMap(CUdeviceptr start, size_t bytes, size_t offset, CUmemGenericAllocationHandle memory,
                      unsigned long long flags) {
  BEGIN_VIRTUAL;
  if (offset != 0 || flags != 0) return kInvalidValue;
  return cudasim::map(start, bytes, memory);
}

// Does not wait for what was queued, which may still use it: that is the caller's to see to.
API CUresult cuMemUnmap(CUdeviceptr start, size_t bytes) {
  BEGIN_VIRTUAL;
  return cudasim::unmap(start, bytes);
}

API CUresult cuMemSetAccess(CUdeviceptr start, size_t bytes, const CUmemAccessDesc* access, size_t count) {
  BEGIN_VIRTUAL;
  if (!access || count != 1 || access->location.type != 1 || access->location.id < 0 ||
      access->location.id >= settings().devices || access->flags != 3)
    return kInvalidValue;
  return cudasim::allow(start, bytes);
}

// --- streams and events

API CUresult cuStreamCreate(CUstream* stream, unsigned flags) {
  BEGIN_IN_CONTEXT;
  if (!stream || flags > CU_STREAM_NON_BLOCKING) return kInvalidValue;
  *stream = new CUstream_st;
  (*stream)->blocking = flags == 0;
  state().streams.insert(*stream);
  return CUDA_SUCCESS;
}

// Only work is captured here. Nothing waits for a stream that is captured, or makes it wait.
static bool refused_while_captured(CUstream_st& stream, const char* what) {
  if (!stream.captured) return false;
  std::fprintf(stderr, "cudasim: %s on a stream that is captured\n", what);
  stream.invalidated = true;
  return true;
}
#define NOT_WHILE_CAPTURED(stream, what) \
  if (refused_while_captured(stream, what)) return kCaptureUnsupported

API CUresult cuStreamSynchronize(CUstream stream) {
  BEGIN_IN_CONTEXT;
  auto* queue = find(stream);
  if (!queue) return kInvalidHandle;
  NOT_WHILE_CAPTURED(*queue, "cuStreamSynchronize");
  run_all(*queue);
  return state().error;
}

API CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
  BEGIN_IN_CONTEXT;
  auto* queue = find(stream);
  if (!queue || !state().events.count(event)) return kInvalidHandle;
  NOT_WHILE_CAPTURED(*queue, "cuStreamWaitEvent");
  if (event->mark) wait_for(*queue, event->mark);
  return CUDA_SUCCESS;
}

API CUresult cuEventCreate(CUevent* event, unsigned flags) {
  BEGIN_IN_CONTEXT;
  if (!event) return kInvalidValue;
  *event = new CUevent_st;
  (*event)->timed = !(flags & CU_EVENT_DISABLE_TIMING);
  state().events.insert(*event);
  return CUDA_SUCCESS;
}

API CUresult cuEventRecord(CUevent event, CUstream stream) {
  BEGIN_IN_CONTEXT;
  auto* queue = find(stream);
  if (!queue || !state().events.count(event)) return kInvalidHandle;
  NOT_WHILE_CAPTURED(*queue, "cuEventRecord");
  event->mark = mark_of(*queue);
  return CUDA_SUCCESS;
}

API CUresult cuEventSynchronize(CUevent event) {
  BEGIN_IN_CONTEXT;
  if (!state().events.count(event)) return kInvalidHandle;
  if (event->mark) run_until(*event->mark);
  return state().error;
}

// Who asks instead of waiting sees the card get on by one thing each time.
API CUresult cuEventQuery(CUevent event) {
  BEGIN_IN_CONTEXT;
  if (!state().events.count(event)) return kInvalidHandle;
  if (!event->mark || event->mark->done) return CUDA_SUCCESS;
  run_one_before(*event->mark);
  return state().error == CUDA_SUCCESS ? CUDA_ERROR_NOT_READY : state().error;
}

API CUresult cuEventElapsedTime(float* milliseconds, CUevent from, CUevent to) {
  BEGIN_IN_CONTEXT;
  auto& events = state().events;
  if (!events.count(from) || !events.count(to) || !from->timed || !to->timed || !from->mark || !to->mark)
    return kInvalidHandle;
  if (!from->mark->done || !to->mark->done) return CUDA_ERROR_NOT_READY;
  *milliseconds = std::chrono::duration<float, std::milli>(to->mark->when - from->mark->when).count();
  return CUDA_SUCCESS;
}

API CUresult cuEventDestroy_v2(CUevent event) {
  BEGIN_IN_CONTEXT;
  if (state().events.erase(event) == 0) return kInvalidHandle;
  delete event;
  return CUDA_SUCCESS;
}

// --- modules and launches

static void note_launch(const std::string& what) {
  if (!settings().launches.empty()) std::ofstream(settings().launches, std::ios::app) << what << '\n';
}

// Takes PTX alone: there is no machine for a card's own code.
API CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  BEGIN_IN_CONTEXT;
  if (!module || !image) return kInvalidValue;
  if (++state().loads == settings().fail_load) return CUDA_ERROR_INVALID_PTX;
  const char* text = static_cast<const char*>(image);
  if (!std::memcmp(text,
                   "\x7f"
                   "ELF",
                   4) ||
      !std::memcmp(text, "\x50\xed\x55\xba", 4))
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
  try {
    auto head = cudasim::head_of(text);
    if (head.version > newest_ptx(settings().driver_version)) return CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
    if (head.target > settings().arch) return CUDA_ERROR_INVALID_PTX;
    auto loaded = cudasim::load_module(text);
    for (auto& [name, kernel] : loaded->kernels) {
      if (kernel->code.shared_bytes <= 48 << 10) continue;
      std::fprintf(stderr, "cudasim: kernel %s: %u bytes of shared memory of fixed size; 49152 is the most\n",
                   cudasim::readable(name).c_str(), kernel->code.shared_bytes);
      return CUDA_ERROR_INVALID_PTX;
    }
    *module = reinterpret_cast<CUmodule>(loaded.release());
  } catch (const cudasim::BadPtx& bad) {
    std::fprintf(stderr, "cudasim: cuModuleLoadData: %s\n", bad.what());
    return CUDA_ERROR_INVALID_PTX;
  }
  state().modules.insert(*module);
  return CUDA_SUCCESS;
}

API CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  BEGIN_IN_CONTEXT;
  if (!function || !name) return kInvalidValue;
  if (!state().modules.count(module)) return kInvalidHandle;
  auto& kernels = reinterpret_cast<cudasim::Module*>(module)->kernels;
  auto at = kernels.find(name);
  if (at == kernels.end()) return kNotFound;
  *function = reinterpret_cast<CUfunction>(at->second.get());
  state().functions.insert(*function);
  return CUDA_SUCCESS;
}

API CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  BEGIN_IN_CONTEXT;
  if (!state().functions.count(function)) return kInvalidHandle;
  auto& kernel = *reinterpret_cast<cudasim::Kernel*>(function);
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 ||
      unsigned(value) + kernel.code.shared_bytes > cudasim::most_shared_bytes())
    return kInvalidValue;
  kernel.most_dynamic = unsigned(value);
  return CUDA_SUCCESS;
}

API CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                            unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream,
                            void** arguments, void** extra) {
  BEGIN_IN_CONTEXT;
  auto* queue = find(stream);
  if (!queue || !state().functions.count(function)) return kInvalidHandle;
  auto& kernel = *reinterpret_cast<cudasim::Kernel*>(function);
  auto refuse = [&](const char* what) {
    std::fprintf(stderr,
                 "cudasim: launch of %s: %s: grid (%u,%u,%u), block (%u,%u,%u), %u bytes of dynamic shared memory\n",
                 cudasim::readable(kernel.code.name).c_str(), what, grid_x, grid_y, grid_z, block_x, block_y, block_z,
                 shared_bytes);
    return kInvalidValue;
  };
  unsigned long long threads = 1ull * block_x * block_y * block_z;
  if (threads == 0 || block_x > 1024 || block_y > 1024 || block_z > 64 || threads > 1024)
    return refuse("a block has 1 to 1024 threads");
  if (threads > kernel.code.most_threads) return refuse("more threads than its launch bounds");
  if (grid_x == 0 || grid_y == 0 || grid_z == 0 || grid_x > 0x7fffffffu || grid_y > 65535 || grid_z > 65535)
    return refuse("no such grid");
  if (shared_bytes > kernel.most_dynamic || shared_bytes + kernel.code.shared_bytes > cudasim::most_shared_bytes())
    return refuse("more shared memory than cuFuncSetAttribute allowed it");
  // Without leave of cuFuncSetAttribute, fixed and dynamic memory have 48 KiB together.
  if (kernel.most_dynamic <= 48 << 10 && shared_bytes + kernel.code.shared_bytes > 48 << 10)
    return refuse("more than 48 KiB of shared memory");
  if (extra || (!arguments && !kernel.code.parameters.empty())) return refuse("no arguments");
  std::string parameters(kernel.code.parameter_bytes + 8, '\0');
  for (size_t i = 0; i < kernel.code.parameters.size(); i++) {
    if (!arguments[i]) return refuse("an argument is missing");
    std::memcpy(&parameters[kernel.code.parameters[i].offset], arguments[i], kernel.code.parameters[i].bytes);
  }
  bool fails = !queue->captured && ++state().launches == settings().fail_launch;
  cudasim::Launch launch{
      &kernel, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, std::move(parameters)};
  enqueue(*queue, [launch = std::move(launch), fails]() -> CUresult {
    if (fails) {
      std::fprintf(stderr, "cudasim: the launch of %s fails (CUDASIM_FAIL=launch)\n",
                   cudasim::readable(launch.kernel->code.name).c_str());
      return CUDA_ERROR_LAUNCH_FAILED;
    }
    note_launch(cudasim::readable(launch.kernel->code.name));
    return cudasim::run(launch);
  });
  return CUDA_SUCCESS;
}

// --- graphs

API CUresult cuStreamBeginCapture_v2(CUstream stream, int mode) {
  BEGIN_IN_CONTEXT;
  auto* queue = find(stream);
  if (!queue) return kInvalidHandle;
  if (mode < 0 || mode > 2) return kInvalidValue;
  if (!stream) return kCaptureUnsupported;
  if (queue->captured) return kIllegalState;
  queue->captured = std::make_unique<CUgraph_st>();
  queue->invalidated = false;
  return CUDA_SUCCESS;
}

API CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  BEGIN_IN_CONTEXT;
  auto* queue = find(stream);
  if (!queue || !graph) return kInvalidValue;
  if (!queue->captured) return kIllegalState;
  auto captured = std::move(queue->captured);
  *graph = nullptr;
  if (queue->invalidated) return kCaptureInvalidated;
  state().graphs.insert(captured.get());
  *graph = captured.release();
  return CUDA_SUCCESS;
}

API CUresult cuGraphInstantiateWithFlags(CUgraphExec* ready, CUgraph graph, unsigned long long flags) {
  BEGIN_IN_CONTEXT;
  if (!ready || flags != 0) return kInvalidValue;
  if (!state().graphs.count(graph)) return kInvalidHandle;
  *ready = new CUgraphExec_st{graph->work};
  state().ready_graphs.insert(*ready);
  return CUDA_SUCCESS;
}

API CUresult cuGraphLaunch(CUgraphExec ready, CUstream stream) {
  BEGIN_IN_CONTEXT;
  auto* queue = find(stream);
  if (!queue || !state().ready_graphs.count(ready)) return kInvalidHandle;
  NOT_WHILE_CAPTURED(*queue, "cuGraphLaunch");
  if (++state().graph_launches == settings().fail_graph) {
    std::fprintf(stderr, "cudasim: the launch of a graph fails (CUDASIM_FAIL=graph)\n");
    return CUDA_ERROR_LAUNCH_FAILED;
  }
  enqueue(*queue, []() -> CUresult {
    note_launch("CUDA graph");
    return CUDA_SUCCESS;
  });
  for (auto& run : ready->work) enqueue(*queue, run);
  return CUDA_SUCCESS;
}

API CUresult cuGraphExecDestroy(CUgraphExec ready) {
  BEGIN_IN_CONTEXT;
  if (state().ready_graphs.erase(ready) == 0) return kInvalidHandle;
  delete ready;
  return CUDA_SUCCESS;
}

API CUresult cuGraphDestroy(CUgraph graph) {
  BEGIN_IN_CONTEXT;
  if (state().graphs.erase(graph) == 0) return kInvalidHandle;
  delete graph;
  return CUDA_SUCCESS;
}

// --- for the simulated cuBLASLt

API int cudasim_enqueue(void* stream, void (*run)(const void*), void* data, void (*release)(void*)) {
  BEGIN_IN_CONTEXT;
  auto* queue = find(static_cast<CUstream>(stream));
  if (!queue) return kInvalidHandle;
  enqueue(*queue, [run, data = std::shared_ptr<void>(data, release)]() -> CUresult {
    run(data.get());
    return state().error;
  });
  return CUDA_SUCCESS;
}

API int cudasim_check_range(unsigned long long start, size_t bytes, int write, const char* who) {
  std::lock_guard<std::recursive_mutex> lock(state().lock);
  if (cudasim::is_live(start, bytes)) return 0;
  std::fprintf(stderr, "cudasim: %s %s %zu bytes at 0x%llx, %s\n", who, write ? "writes" : "reads", bytes, start,
               cudasim::what_lies_at(start).c_str());
  if (state().error == CUDA_SUCCESS) state().error = kIllegalAddress;
  return kIllegalAddress;
}

API int cudasim_arch() { return settings().arch; }
