// How fast bytes move: between host and card from pinned memory, in each direction and both at once, and within the card.
//
//   copies [MIB]  one line of JSON, GB/s (10⁹ bytes); default 1024 MiB a copy, as far as the card has them free
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "../../engine/native/cuda/event.h"

using namespace tstrain;
using namespace tstrain::cuda;

namespace {

constexpr int kRepeats = 9;

// The median of repeated runs, after one that is not counted.
double seconds_of(const std::function<void()>& queue) {
  Event from, to;
  auto& d = driver();
  std::vector<float> all;
  for (int i = 0; i <= kRepeats; i++) {
    from.record();
    queue();
    to.record();
    check(d.cuEventSynchronize(to.event), "waiting for the copies");
    float milliseconds;
    check(d.cuEventElapsedTime(&milliseconds, from.event, to.event), "reading an event");
    if (i > 0) all.push_back(milliseconds);
  }
  std::nth_element(all.begin(), all.begin() + kRepeats / 2, all.end());
  return all[kRepeats / 2] / 1e3;
}

int copies(std::size_t mib) {
  auto& d = driver();
  auto [context, compute, copy] = card();
  std::size_t free, total;
  check(d.cuMemGetInfo_v2(&free, &total), "asking for the card's memory");
  std::size_t bytes = std::min(mib << 20, free / 4);
  CUdeviceptr first, second;
  void *in, *out;
  check(d.cuMemAlloc_v2(&first, bytes), "allocating on the card");
  check(d.cuMemAlloc_v2(&second, bytes), "allocating on the card");
  check(d.cuMemHostAlloc(&in, bytes, CU_MEMHOSTALLOC_PORTABLE), "allocating pinned memory");
  check(d.cuMemHostAlloc(&out, bytes, CU_MEMHOSTALLOC_PORTABLE), "allocating pinned memory");
  // Pages that nobody has written may all be the same one.
  for (std::size_t i = 0; i < bytes; i++) static_cast<unsigned char*>(in)[i] = static_cast<unsigned char>(i * 7);

  auto to_card = [&](CUstream stream) { check(d.cuMemcpyHtoDAsync_v2(first, in, bytes, stream), "copying in"); };
  auto to_host = [&](CUstream stream) { check(d.cuMemcpyDtoHAsync_v2(out, second, bytes, stream), "copying out"); };
  auto within = [&] { check(d.cuMemcpyDtoDAsync_v2(second, first, bytes, compute), "copying on the card"); };
  double in_s = seconds_of([&] { to_card(compute); });
  double within_s = seconds_of(within);
  double out_s = seconds_of([&] { to_host(compute); });
  if (!std::equal(static_cast<char*>(in), static_cast<char*>(in) + bytes, static_cast<char*>(out)))
    throw OpError("what came back is not what was sent");
  Event begin, other;
  double both_s = seconds_of([&] {
    check(d.cuEventRecord(begin.event, compute), "recording an event");
    check(d.cuStreamWaitEvent(copy, begin.event, 0), "ordering streams");
    to_card(copy);
    to_host(compute);
    check(d.cuEventRecord(other.event, copy), "recording an event");
    check(d.cuStreamWaitEvent(compute, other.event, 0), "ordering streams");
  });
  double gigabytes = double(bytes) / 1e9;
  std::printf(
      "{\"mib\": %zu, \"host_to_card\": %.2f, \"card_to_host\": %.2f, \"both_at_once\": %.2f, "
      "\"within_card_read_and_written\": %.1f}\n",
      bytes >> 20, gigabytes / in_s, gigabytes / out_s, 2 * gigabytes / both_s, 2 * gigabytes / within_s);
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    return copies(count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 1024);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "copies: %s\n", error.what());
    return 1;
  }
}
