#include "card.h"

#include <array>
#include <cstdlib>
#include <cstring>

namespace tstrain::cuda {

namespace {

// The last kernels that nobody has waited for yet.
constexpr size_t kRemembered = 8;
std::array<const std::string*, kRemembered> recent;
size_t since_wait = 0;

std::string recent_kernels() {
  std::string names;
  for (size_t back = std::min(since_wait, kRemembered); back > 0; back--) {
    auto& name = *recent[(since_wait - back) % kRemembered];
    names += (names.empty() ? "" : ", ") + name;
  }
  return names;
}

void check_kernels(CUresult result) {
  if (result == CUDA_SUCCESS) return;
  std::string ran = recent_kernels();
  std::string where = ran.empty() ? "the card" : "the card, in one of the kernels " + ran;
  std::string next = launch_blocking() ? "" : "; with CUDA_LAUNCH_BLOCKING=1 the error is told by the very kernel";
  check(result, (where + next + ": waiting for it").c_str());
}

}  // namespace

const Card& card() {
  static const Card instance = [] {
    auto& d = driver();
    if (!d.missing.empty()) throw OpError("there is no CUDA device: " + d.missing);
    Card c;
    check(d.cuDevicePrimaryCtxRetain(&c.context, d.device), "opening the card");
    check(d.cuCtxSetCurrent(c.context), "opening the card");
    check(d.cuStreamCreate(&c.compute, CU_STREAM_NON_BLOCKING), "making a stream");
    check(d.cuStreamCreate(&c.copy, CU_STREAM_NON_BLOCKING), "making a stream");
    return c;
  }();
  return instance;
}

bool launch_blocking() {
  static const bool set = [] {
    const char* value = std::getenv("CUDA_LAUNCH_BLOCKING");
    return value && !std::strcmp(value, "1");
  }();
  return set;
}

void launched(const std::string& kernel) {
  recent[since_wait++ % kRemembered] = &kernel;
  if (launch_blocking()) wait_for(card().compute);
}

void wait_for(CUstream stream) {
  check_kernels(driver().cuStreamSynchronize(stream));
  if (stream == card().compute) since_wait = 0;
}

bool reached(CUevent event) {
  CUresult result = driver().cuEventQuery(event);
  if (result == CUDA_ERROR_NOT_READY) return false;
  check_kernels(result);
  return true;
}

}  // namespace tstrain::cuda
