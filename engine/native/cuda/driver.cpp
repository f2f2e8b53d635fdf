#include "driver.h"

#include <cstdio>
#include <cstdlib>

#include "../tensor.h"
#include "libraries.h"

namespace tstrain::cuda {

namespace {

// Tensor cores with bfloat16, asynchronous copies to shared memory: what the kernels are written for.
constexpr int kLeastMajor = 8;

std::string name_of_error(const Driver& d, CUresult error) {
  const char *name = nullptr, *text = nullptr;
  if (d.cuGetErrorName) d.cuGetErrorName(error, &name);
  if (d.cuGetErrorString) d.cuGetErrorString(error, &text);
  std::string words = name ? name : "error " + std::to_string(error);
  return text ? words + ": " + text : words;
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// What is missing, or nothing.
std::string open(Driver& d) {
  Library library = open_driver();
  if (!library.handle)
    return "NVIDIA's driver (libcuda.so.1) " + (library.missing == "not found" ? "is not installed" : library.missing);
  d.path = library.path;
#define TSTRAIN_LOAD(name, parameters)                                        \
  d.name = reinterpret_cast<CUresult(*) parameters>(library.function(#name)); \
  if (!d.name) return library.missing;
  TSTRAIN_CUDA_FUNCTIONS(TSTRAIN_LOAD)
#undef TSTRAIN_LOAD
  auto failed = [&](const char* what, CUresult error) {
    return std::string(what) + " of NVIDIA's driver fails with " + name_of_error(d, error);
  };
  CUresult result = d.cuInit(0);
  int count = 0;
  if (result == CUDA_SUCCESS) {
    d.cuDriverGetVersion(&d.version);
    result = d.cuDeviceGetCount(&count);
  }
  if (result == CUDA_ERROR_NO_DEVICE || (result == CUDA_SUCCESS && count == 0)) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    return "NVIDIA's driver finds no card" +
           (visible ? std::string("; CUDA_VISIBLE_DEVICES is \"") + visible + "\"" : std::string());
  }
  if (result != CUDA_SUCCESS) return failed("cuInit", result);
  char name[256] = "";
  result = d.cuDeviceGet(&d.device, 0);
  if (result == CUDA_SUCCESS) result = d.cuDeviceGetName(name, sizeof name, d.device);
  if (result == CUDA_SUCCESS) result = d.cuDeviceTotalMem_v2(&d.total_bytes, d.device);
  if (result == CUDA_SUCCESS)
    result = d.cuDeviceGetAttribute(&d.major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, d.device);
  if (result == CUDA_SUCCESS)
    result = d.cuDeviceGetAttribute(&d.minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, d.device);
  if (result != CUDA_SUCCESS) return failed("cuDeviceGet", result);
  d.card = name;
  if (d.major < kLeastMajor)
    return d.card + " has compute capability " + std::to_string(d.major) + "." + std::to_string(d.minor) +
           "; 8.0 (Ampere) is the least that is supported";
  // CUDA 11.8: the oldest that knows Ada and Hopper.
  if (d.version < 11080)
    return "NVIDIA's driver is of CUDA " + version_text(d.version) + "; 11.8 is the least that is supported";
  return "";
}

}  // namespace

const Driver& driver() {
  static const Driver instance = [] {
    Driver d{};
    d.missing = open(d);
    return d;
  }();
  return instance;
}

void check(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  throw OpError(std::string(what) + " fails with " + name_of_error(driver(), result));
}

}  // namespace tstrain::cuda
