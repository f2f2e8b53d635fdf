// What the simulator's own tests are written with: a program of its own, linked with the simulated driver, that compiles a
// .cu file with a real NVRTC.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "../../engine/native/cuda/driver.h"

namespace check {

using namespace tstrain::cuda;

extern "C" {
#define TSTRAIN_DECLARE(name, parameters) CUresult name parameters;
TSTRAIN_CUDA_FUNCTIONS(TSTRAIN_DECLARE)
#undef TSTRAIN_DECLARE
}

// PTX of a file beside this one, by the NVRTC that CUDASIM_NVRTC names, for the architecture of CUDASIM_FOR.
std::string ptx_of(const char* file);

inline void must(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  const char* name = "?";
  cuGetErrorName(result, &name);
  std::fprintf(stderr, "%s: %s\n", what, name);
  std::exit(2);
}
#define MUST(call) ::check::must(call, #call)

// The card, a stream and one module.
struct Card {
  CUstream stream = nullptr;
  CUmodule module = nullptr;

  explicit Card(const std::string& ptx) {
    CUcontext context;
    MUST(cuInit(0));
    MUST(cuDevicePrimaryCtxRetain(&context, 0));
    MUST(cuCtxSetCurrent(context));
    MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    MUST(cuModuleLoadData(&module, ptx.c_str()));
  }

  CUfunction function(const char* name) const {
    CUfunction f;
    MUST(cuModuleGetFunction(&f, module, name));
    return f;
  }

  // Arguments as the kernel has them.
  template <class... A>
  CUresult try_launch(CUfunction f, unsigned blocks, unsigned threads, unsigned shared, CUstream on,
                      A... arguments) const {
    void* pointers[] = {static_cast<void*>(&arguments)..., nullptr};
    return cuLaunchKernel(f, blocks, 1, 1, threads, 1, 1, shared, on, pointers, nullptr);
  }
  template <class... A>
  void launch(const char* name, unsigned blocks, unsigned threads, unsigned shared, A... arguments) const {
    must(try_launch(function(name), blocks, threads, shared, stream, arguments...), name);
  }
};

// As many values on the card, and their copies.
template <class T>
struct Values {
  const Card& card;
  CUdeviceptr start = 0;
  size_t count;

  Values(const Card& card, size_t count) : card(card), count(count) { MUST(cuMemAlloc_v2(&start, count * sizeof(T))); }
  Values(const Card& card, const std::vector<T>& values) : Values(card, values.size()) {
    MUST(cuMemcpyHtoDAsync_v2(start, values.data(), count * sizeof(T), card.stream));
  }
  ~Values() { cuMemFree_v2(start); }
  Values(const Values&) = delete;
  Values& operator=(const Values&) = delete;

  T* pointer() const { return reinterpret_cast<T*>(start); }
  std::vector<T> get() const {
    std::vector<T> values(count);
    MUST(cuMemcpyDtoHAsync_v2(values.data(), start, count * sizeof(T), card.stream));
    return values;
  }
};

}  // namespace check
