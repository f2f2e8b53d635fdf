#include "check.h"

#include <dlfcn.h>

#include <fstream>
#include <sstream>

namespace check {

namespace {

using Program = void*;

void* nvrtc(const char* name) {
  const char* path = std::getenv("CUDASIM_NVRTC");
  static void* library = dlopen(path ? path : "libnvrtc.so.12", RTLD_NOW);
  void* function = library ? dlsym(library, name) : nullptr;
  if (!function) {
    std::printf("no %s: %s\n", name, dlerror());
    std::exit(2);
  }
  return function;
}

template <class... A>
int call(const char* name, A... arguments) {
  return reinterpret_cast<int (*)(A...)>(nvrtc(name))(arguments...);
}

}  // namespace

std::string ptx_of(const char* file) {
  std::ifstream in(std::string(CUDASIM_SOURCES "/") + file);
  std::stringstream source;
  source << in.rdbuf();
  const char* arch = std::getenv("CUDASIM_FOR");
  std::string text = source.str(), option = std::string("--gpu-architecture=") + (arch ? arch : "compute_80");
  Program program = nullptr;
  call("nvrtcCreateProgram", &program, text.c_str(), file, 0, static_cast<const char* const*>(nullptr),
       static_cast<const char* const*>(nullptr));
  const char* options[] = {option.c_str(), "--std=c++17"};
  int result = call("nvrtcCompileProgram", program, 2, static_cast<const char* const*>(options));
  size_t bytes = 0;
  call("nvrtcGetProgramLogSize", program, &bytes);
  std::string log(bytes, '\0');
  call("nvrtcGetProgramLog", program, log.data());
  if (result != 0) {
    std::printf("%s\n", log.c_str());
    std::exit(2);
  }
  call("nvrtcGetPTXSize", program, &bytes);
  std::string ptx(bytes, '\0');
  call("nvrtcGetPTX", program, ptx.data());
  return ptx;
}

}  // namespace check
