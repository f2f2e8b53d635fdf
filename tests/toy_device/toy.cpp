// A device for tests, linked into an addon of its own (`make toy`). It computes what the CPU does, but as a device far
// away would: its memory cannot be accessed (PROT_NONE) except by its own ops and copies, ops and copies to it wait in a
// queue until somebody synchronizes, and its tensors have an alignment and a slack of their own. What runs on it without
// a change above engine/native looks at no device's memory, waits where it must, and knows no rule of the CPU.
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "block_signals.h"
#include "cpu/cpu.h"
#include "cpu/threads.h"

namespace tstrain {

namespace {

constexpr i64 kAlignment = 512, kRoom = i64(1) << 36, kPage = 4096;

class ToyMemory : public Memory {
 public:
  // The arena, and behind it as much for the rest.
  Range reserve(i64) override {
    void* p = mmap(nullptr, size_t(2 * kRoom), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw OpError("cannot reserve address space for the toy device");
    start_ = static_cast<char*>(p);
    return {start_, kRoom};
  }

  void close(char* start, i64 bytes) override { forget(start, bytes); }
  void give_back(char* start, i64 bytes) override { forget(start, bytes); }

  // In the order of the queue: who gets released memory comes later in it.
  char* allocate(i64 bytes) override { return start_ + kRoom + rest_.allocate(bytes); }
  void release(char* start, i64 bytes) override {
    rest_.release(start - start_ - kRoom, bytes);
    forget(start, bytes);
  }

  void copy_in(char* to, const void* host, i64 bytes) override {
    auto* from = static_cast<const char*>(host);
    queue([to, taken = std::vector<char>(from, from + bytes)] { std::memcpy(to, taken.data(), taken.size()); });
  }

  void copy_out(void* host, const char* from, i64 bytes) override {
    Access access(*this);
    std::memcpy(host, from, size_t(bytes));
  }

  // Each look at it lets one thing happen that is in the queue.
  std::unique_ptr<Fetch> fetch(const char* from, i64 bytes) override {
    struct Coming : Fetch {
      ToyMemory& memory;
      std::shared_ptr<std::vector<char>> come = std::make_shared<std::vector<char>>();
      Coming(ToyMemory& memory, const char* from, i64 bytes) : Fetch(bytes), memory(memory) {
        memory.queue([come = come, from, bytes] { come->assign(from, from + bytes); });
      }
      bool advance(char* host) override {
        if (i64(come->size()) < bytes) return memory.run(1), false;
        std::memcpy(host, come->data(), come->size());
        return true;
      }
    };
    return std::make_unique<Coming>(*this, from, bytes);
  }

  Stream stream() override { return this; }

  void synchronize() override { run(queue_.size()); }

  // The first so many in the queue.
  void run(size_t count) {
    if (queue_.empty()) return;
    Access access(*this);
    BlockSignals until_done;
    int threads = thread_count();
    std::exception_ptr first;
    for (; count > 0; count--) {
      auto work = std::move(queue_.front());
      queue_.pop_front();
      try {
        work();
      } catch (...) {
        if (!first) first = std::current_exception();
      }
    }
    if (thread_count() != threads) set_thread_count(threads);
    if (first) std::rethrow_exception(first);
  }

  void queue(std::function<void()> work) { queue_.push_back(std::move(work)); }

 private:
  class Access {
   public:
    explicit Access(ToyMemory& memory) : memory_(memory) { memory_.protect(PROT_READ | PROT_WRITE); }
    ~Access() { memory_.protect(PROT_NONE); }
    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;

   private:
    ToyMemory& memory_;
  };

  // Whole pages that nobody needs go back to the system: the more there are, the longer protect() takes.
  void forget(char* start, i64 bytes) {
    i64 from = i64(rounded_up(start - start_, kPage)), to = (start - start_ + bytes) / kPage * kPage;
    if (to - from >= 16 * kPage) queue([=] { madvise(start_ + from, size_t(to - from), MADV_DONTNEED); });
  }

  void protect(int access) {
    if (mprotect(start_, size_t(2 * kRoom), access) != 0) std::abort();
  }

  char* start_ = nullptr;
  Arena rest_{kRoom, kAlignment};
  std::deque<std::function<void()>> queue_;
};

Memory& toy_memory() {
  static ToyMemory memory;
  return memory;
}

template <const char* Name, auto Op, class... A>
void queued(const Context& context, A... a) {
  // Its workspace is for as many threads as there are now.
  static_cast<ToyMemory*>(context.stream)->queue([workspace = context.workspace, threads = thread_count(), a...] {
    if (thread_count() != threads) set_thread_count(threads);
    try {
      (cpu_kernels().ops.*Op)(Context{workspace, nullptr}, a...);
    } catch (const OpError& e) {
      throw OpError(std::string(Name) + ": " + e.what());
    }
  });
}

#define TOY_NAME(name, parameters, ...) constexpr char name##_name[] = #name;
TSTRAIN_OPS(TOY_NAME)

const OpTable& toy_ops() {
  static const OpTable table = {
#define TOY_ENTRY(name, parameters, ...) queued<name##_name, &OpTable::name>,
      TSTRAIN_OPS(TOY_ENTRY)};
  return table;
}

// Behind every matrix: two rows.
i64 two_rows(DType, i64, i64 columns) { return 2 * columns; }

std::string nothing() { return ""; }
std::string toy_words(DType) { return "a device for tests"; }

const DeviceKind toy_device = {"toy",    nothing,    toy_ops,   &cpu_workspaces, kAlignment, 1,       false,
                               two_rows, toy_memory, toy_words, nullptr,         nullptr,    nullptr, 32};

[[maybe_unused]] const bool added = add_device(toy_device);

}  // namespace
}  // namespace tstrain
