// Plants faults and says what came of each, in each of several orders of threads: one line of JSON a fault and seed, for
// faults.test.ts. Each runs in a process of its own, since a card that failed stays failed.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#include "check.h"

using namespace check;

namespace {

using Floats = Values<float>;

// What a test found: the error that waiting gave, and whether the numbers were the right ones.
struct Outcome {
  CUresult error = CUDA_SUCCESS;
  bool right = true;
};

std::vector<float> counting(size_t n) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; i++) x[i] = float(i % 100);
  return x;
}

// A kernel of (y, x) over 2048 floats each.
std::function<Outcome(const Card&)> kernel(const char* name, unsigned blocks = 1, unsigned threads = 256,
                                           unsigned shared = 0) {
  return [=](const Card& card) {
    Floats x(card, counting(2048)), y(card, 2048);
    card.launch(name, blocks, threads, shared, y.pointer(), x.pointer());
    return Outcome{cuStreamSynchronize(card.stream)};
  };
}

// One of (y, x, n) over exactly n floats.
std::function<Outcome(const Card&)> kernel_of(const char* name, int n, unsigned blocks = 5) {
  return [=](const Card& card) {
    Floats x(card, counting(size_t(n))), y(card, size_t(n));
    card.launch(name, blocks, 256, 0, y.pointer(), x.pointer(), n);
    return Outcome{cuStreamSynchronize(card.stream)};
  };
}

std::function<Outcome(const Card&)> product(const char* name) {
  return [=](const Card& card) {
    std::vector<uint16_t> a(256), b(128);
    auto small = [](size_t i) { return float(int(i * 7 % 13) - 6); };
    auto bits = [](float x) {
      uint32_t u;
      std::memcpy(&u, &x, 4);
      return uint16_t(u >> 16);
    };
    for (size_t i = 0; i < 256; i++) a[i] = bits(small(i));
    for (size_t i = 0; i < 128; i++) b[i] = bits(small(i * i));
    Values<uint16_t> da(card, a), db(card, b);
    Floats y(card, 128);
    card.launch(name, 1, 32, 0, y.pointer(), da.pointer(), db.pointer());
    auto got = y.get();
    bool right = true;
    for (size_t i = 0; i < 16; i++)
      for (size_t j = 0; j < 8; j++) {
        float sum = 0;
        for (size_t k = 0; k < 16; k++) sum += small(i * 16 + k) * small((k * 8 + j) * (k * 8 + j));
        right &= got[i * 8 + j] == sum;
      }
    return Outcome{cuStreamSynchronize(card.stream), right};
  };
}

constexpr int kN = 1000;

// Two steps on two streams: what the second makes of the first's output.
Outcome two_streams(const Card& card, bool waits) {
  Floats x(card, counting(kN)), y(card, kN), z(card, kN);
  MUST(cuStreamSynchronize(card.stream));
  CUstream second;
  CUevent done;
  MUST(cuStreamCreate(&second, CU_STREAM_NON_BLOCKING));
  MUST(cuEventCreate(&done, CU_EVENT_DISABLE_TIMING));
  card.launch("add_one", 4, 256, 0, y.pointer(), x.pointer(), kN);
  MUST(cuEventRecord(done, card.stream));
  if (waits) MUST(cuStreamWaitEvent(second, done, 0));
  MUST(card.try_launch(card.function("add_one"), 4, 256, 0, second, z.pointer(), y.pointer(), kN));
  CUresult error = cuStreamSynchronize(second);
  auto got = z.get();
  bool right = true;
  for (int i = 0; i < kN; i++) right &= got[size_t(i)] == float(i % 100) + 2;
  return {error, right};
}

// One staging buffer for two copies.
Outcome staging(const Card& card, bool waits) {
  void* memory;
  MUST(cuMemHostAlloc(&memory, kN * 4, 0));
  auto* host = static_cast<float*>(memory);
  Floats x(card, kN), y(card, kN);
  for (int i = 0; i < kN; i++) host[i] = 1;
  MUST(cuMemcpyHtoDAsync_v2(x.start, host, kN * 4, card.stream));
  if (waits) MUST(cuStreamSynchronize(card.stream));
  for (int i = 0; i < kN; i++) host[i] = 2;
  MUST(cuMemcpyHtoDAsync_v2(y.start, host, kN * 4, card.stream));
  auto a = x.get(), b = y.get();
  MUST(cuMemFreeHost(memory));
  return {CUDA_SUCCESS, a[5] == 1 && b[5] == 2};
}

Outcome read_back(const Card& card, bool waits) {
  void* memory;
  MUST(cuMemHostAlloc(&memory, kN * 4, 0));
  auto* host = static_cast<float*>(memory);
  Floats x(card, counting(kN));
  MUST(cuMemcpyDtoHAsync_v2(host, x.start, kN * 4, card.stream));
  if (waits) MUST(cuStreamSynchronize(card.stream));
  bool right = host[5] == 5;
  MUST(cuStreamSynchronize(card.stream));
  MUST(cuMemFreeHost(memory));
  return {CUDA_SUCCESS, right};
}

Outcome stale_pointer(const Card& card) {
  Floats y(card, kN);
  float* stale;
  {
    Floats x(card, counting(kN));
    stale = x.pointer();
  }
  // Fresh memory does not come to lie where freed memory lay.
  Floats other(card, counting(kN));
  card.launch("add_one", 4, 256, 0, y.pointer(), stale, kN);
  return {cuStreamSynchronize(card.stream)};
}

Outcome freed_twice(const Card&) {
  CUdeviceptr start;
  MUST(cuMemAlloc_v2(&start, 100));
  MUST(cuMemFree_v2(start));
  return {cuMemFree_v2(start)};
}

Outcome host_freed_early(const Card& card) {
  void* memory;
  MUST(cuMemHostAlloc(&memory, kN * 4, 0));
  Floats x(card, kN);
  MUST(cuMemcpyHtoDAsync_v2(x.start, memory, kN * 4, card.stream));
  MUST(cuMemFreeHost(memory));
  return {cuStreamSynchronize(card.stream)};
}

// An arena of two pages with memory behind the first.
Outcome arena(const Card& card, size_t bytes) {
  constexpr size_t kPage = 2 << 20;
  CUmemAllocationProp kind{};
  kind.type = 1;
  kind.location = {1, 0};
  CUmemAccessDesc access{{1, 0}, 3};
  CUdeviceptr start;
  CUmemGenericAllocationHandle memory;
  MUST(cuMemAddressReserve(&start, 2 * kPage, 0, 0, 0));
  MUST(cuMemCreate(&memory, kPage, &kind, 0));
  MUST(cuMemMap(start, kPage, 0, memory, 0));
  MUST(cuMemSetAccess(start, kPage, &access, 1));
  Floats x(card, counting(bytes / 4));
  card.launch("add_one", unsigned(bytes / 1024), 256, 0, reinterpret_cast<float*>(start + kPage - 4096), x.pointer(),
              int(bytes / 4));
  CUresult error = cuStreamSynchronize(card.stream);
  if (error == CUDA_SUCCESS) {
    MUST(cuMemUnmap(start, kPage));
    MUST(cuMemRelease(memory));
    MUST(cuMemAddressFree(start, 2 * kPage));
  }
  return {error};
}

Outcome too_much_shared(const Card& card, int allowed, unsigned asked) {
  Floats x(card, counting(256)), y(card, 256);
  CUfunction f = card.function("dynamic_shared_past_end");
  if (allowed)
    if (CUresult error = cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, allowed))
      return {error};
  if (CUresult error = card.try_launch(f, 1, 256, asked, card.stream, y.pointer(), x.pointer())) return {error};
  return {cuStreamSynchronize(card.stream)};
}

// What lies in memory that nobody wrote.
Outcome unwritten_global(const Card& card, const char* name) {
  Floats x(card, kN), y(card, kN);
  card.launch(name, 1, 1, 0, y.pointer(), x.pointer(), kN);
  auto got = y.get();
  return {CUDA_SUCCESS, std::abs(got[0]) < 1e6f};
}

Outcome leak(const Card& card) {
  new Floats(card, counting(kN));
  return {cuStreamSynchronize(card.stream)};
}

struct Test {
  const char* name;
  std::function<Outcome(const Card&)> run;
};
const Test kTests[] = {
    {"add_one", kernel_of("add_one", kN)},
    {"reversed", kernel("reversed")},
    {"missing_barrier", kernel("missing_barrier")},
    {"missing_second_barrier", kernel("missing_second_barrier")},
    {"missing_warp_barrier", kernel("missing_warp_barrier", 1, 32)},
    {"store_past_end", kernel_of("store_past_end", kN)},
    {"load_past_end", kernel_of("load_past_end", kN)},
    {"load_before_start", kernel_of("load_before_start", kN)},
    {"shared_past_end", kernel("shared_past_end")},
    {"dynamic_shared_past_end", kernel("dynamic_shared_past_end", 1, 256, 1000)},
    {"unwritten_shared", kernel("unwritten_shared")},
    {"local_past_end",
     [](const Card& card) {
       Floats x(card, counting(8)), y(card, 2);
       card.launch("local_past_end", 1, 2, 0, y.pointer(), x.pointer(), 7);
       return Outcome{cuStreamSynchronize(card.stream)};
     }},
    {"misaligned_vector", kernel("misaligned_vector", 1, 32)},
    {"race_between_blocks", kernel("race_between_blocks", 4)},
    {"reads_another_block", kernel("reads_another_block", 4)},
    {"parted_barriers", kernel("parted_barriers", 1, 64)},
    {"lanes_stay_away", kernel("lanes_stay_away", 1, 64)},
    {"lanes_have_ended", kernel("lanes_have_ended", 1, 32)},
    {"part_of_a_warp", kernel("sum_of_a_warp", 1, 48)},
    {"half_a_warp", kernel("half_a_warp", 1, 32)},
    {"copy_not_awaited", kernel("copy_not_awaited", 1, 32)},
    {"copy_over_what_is_read", kernel("copy_over_what_is_read", 1, 32)},
    {"right_fragment", product("right_fragment")},
    {"wrong_fragment", product("wrong_fragment")},
    {"wait_between_streams", [](const Card& card) { return two_streams(card, true); }},
    {"missing_wait_between_streams", [](const Card& card) { return two_streams(card, false); }},
    {"staging_awaited", [](const Card& card) { return staging(card, true); }},
    {"staging_reused_early", [](const Card& card) { return staging(card, false); }},
    {"read_back_awaited", [](const Card& card) { return read_back(card, true); }},
    {"read_back_early", [](const Card& card) { return read_back(card, false); }},
    {"stale_pointer", stale_pointer},
    {"freed_twice", freed_twice},
    {"host_freed_early", host_freed_early},
    {"arena", [](const Card& card) { return arena(card, 4096); }},
    {"arena_past_its_memory", [](const Card& card) { return arena(card, 8192); }},
    {"shared_allowed", [](const Card& card) { return too_much_shared(card, 99 << 10, 99 << 10); }},
    {"shared_not_allowed", [](const Card& card) { return too_much_shared(card, 0, 50 << 10); }},
    {"more_shared_than_there_is", [](const Card& card) { return too_much_shared(card, 230 << 10, 230 << 10); }},
    {"unwritten_global", [](const Card& card) { return unwritten_global(card, "add_one"); }},
    {"unwritten_global_largest", [](const Card& card) { return unwritten_global(card, "largest"); }},
    {"too_many_threads",
     [](const Card& card) {
       Floats x(card, counting(kN)), y(card, kN);
       return Outcome{card.try_launch(card.function("add_one"), 1, 1025, 0, card.stream, y.pointer(), x.pointer(), kN)};
     }},
    {"leak", leak},
};

std::string quoted(const std::string& s) {
  std::string q = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\') q += '\\';
    q += c == '\n' ? ' ' : c;
  }
  return q + "\"";
}

// Runs in another process, and prints what it said.
void run_apart(const Test& test, const std::string& ptx, const char* seed) {
  int pipes[2];
  if (pipe(pipes) != 0) std::exit(2);
  pid_t child = fork();
  if (child == 0) {
    setenv("CUDASIM_SEED", seed, 1);
    dup2(pipes[1], 2);
    close(pipes[0]);
    close(pipes[1]);
    Outcome outcome;
    {
      Card card(ptx);
      outcome = test.run(card);
    }
    std::fprintf(stderr, "\nerror=%d right=%d\n", outcome.error, int(outcome.right));
    std::exit(0);
  }
  close(pipes[1]);
  std::string said;
  char buffer[4096];
  for (ssize_t n; (n = read(pipes[0], buffer, sizeof buffer)) > 0;) said.append(buffer, size_t(n));
  close(pipes[0]);
  int status = 0;
  waitpid(child, &status, 0);
  int error = -1, right = 0;
  size_t at = said.find("\nerror=");
  if (at != std::string::npos) std::sscanf(said.c_str() + at, "\nerror=%d right=%d", &error, &right);
  if (at != std::string::npos) said.erase(at, said.find('\n', at + 1) - at + 1);
  std::printf("{\"name\": %s, \"seed\": %s, \"status\": %d, \"error\": %d, \"right\": %s, \"said\": %s}\n",
              quoted(test.name).c_str(), seed, status, error, right ? "true" : "false", quoted(said).c_str());
  std::fflush(stdout);
}

}  // namespace

// faults SEED… [- NAME…]
int main(int count, char** arguments) {
  setvbuf(stdout, nullptr, _IOLBF, 0);
  std::string ptx = ptx_of("faults.cu");
  std::vector<std::string> seeds, names;
  for (int i = 1, named = 0; i < count; i++) {
    if (!std::strcmp(arguments[i], "-")) named = 1;
    else (named ? names : seeds).push_back(arguments[i]);
  }
  for (auto& test : kTests) {
    bool wanted = names.empty();
    for (auto& name : names) wanted |= name == test.name;
    for (auto& seed : seeds)
      if (wanted) run_apart(test, ptx, seed.c_str());
  }
}
