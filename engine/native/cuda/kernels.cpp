// Finds kernels and launches them. A file of kernels is compiled at the first use of one of its own: by NVRTC for this
// very card, which is kept on disk; or by the driver from PTX, where it takes no machine code of this NVRTC's, or there is
// no NVRTC that knows the card.
#include "kernels.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>
#include <unordered_map>

#include "card.h"
#include "embedded.h"
#include "kernel_cache.h"
#include "launch.h"
#include "nvrtc.h"

namespace tstrain::cuda {

struct Kernel {
  std::string name;
  CUfunction function = nullptr;
  mutable i64 shared = 48 << 10;  // the most it may be launched with; more is asked for at its first use
};

namespace {

const char* type_name(DType type) {
  switch (type) {
    case DType::f32: return "float";
    case DType::bf16: return "bf16";
    case DType::i32: return "i32";
    case DType::f64: return "double";
    case DType::u8: return "u8";
    case DType::i16: return "i16";
  }
  return "?";
}

int capability() { return driver().major * 10 + driver().minor; }

// What this card's machine code is called. Instructions of Hopper alone are only in that of sm_90a.
std::string architecture() { return "sm_" + std::to_string(capability()) + (capability() == 90 ? "a" : ""); }

// Why NVRTC cannot compile for this card; empty when it can.
std::string compiler_lacks() {
  auto& n = nvrtc();
  if (!n.missing.empty()) return "NVRTC " + n.missing;
  if (std::find(n.architectures.begin(), n.architectures.end(), capability()) != n.architectures.end()) return "";
  return "NVRTC " + std::to_string(n.major) + "." + std::to_string(n.minor) + " (" + n.path + ") does not know " +
         architecture();
}

Source source_of(const EmbeddedFile& file) { return {file.name, file.source, tstrain_cuda_header}; }

Compiled compiled_for_card(const Source& source) {
  Compiled compiled;
  if (read_cache(source, architecture(), compiled)) return compiled;
  compiled = compile(source, architecture());
  write_cache(source, architecture(), compiled);
  return compiled;
}

bool refuses_machine_code(CUresult result) {
  return result == CUDA_ERROR_NO_BINARY_FOR_GPU || result == CUDA_ERROR_INVALID_IMAGE;
}

// What the driver did not take of what NVRTC made, in words.
std::string refused;

struct Module {
  CUmodule module = nullptr;
  std::map<std::string, std::string> names;
};

Module load(const EmbeddedFile& file) {
  auto& d = driver();
  card();  // modules belong to its context
  Module m;
  std::string what = std::string("loading the kernels of ") + file.name;
  if (compiler_lacks().empty()) {
    Compiled compiled = compiled_for_card(source_of(file));
    m.names = compiled.names;
    CUresult result = d.cuModuleLoadData(&m.module, compiled.machine_code.data());
    if (refuses_machine_code(result)) {
      refused = "the driver takes no machine code of that NVRTC, and compiles its PTX";
      result = d.cuModuleLoadData(&m.module, compiled.ptx.c_str());
    }
    if (result != CUDA_ERROR_UNSUPPORTED_PTX_VERSION && result != CUDA_ERROR_INVALID_PTX) {
      check(result, what.c_str());
      return m;
    }
    // Older than the NVRTC. The committed PTX is the oldest there is.
    refused = "the driver takes nothing of that NVRTC, which is newer, and compiles the PTX for compute_80";
  }
  if (!file.ptx) throw OpError(what + ": they have no PTX in advance, and " + compiler_lacks());
  Compiled compiled = from_file(file.ptx);
  m.names = compiled.names;
  CUresult result = d.cuModuleLoadData(&m.module, file.ptx);
  if (result == CUDA_ERROR_UNSUPPORTED_PTX_VERSION)
    throw OpError(what +
                  ": the driver takes no PTX of CUDA 12.0; a newer driver does, or an NVRTC of its own version (" +
                  compiler_lacks() + ")");
  check(result, what.c_str());
  return m;
}

// The name of a kernel without its types: "rope" of "rope<float>".
std::string base_of(const std::string& kernel) { return kernel.substr(0, kernel.find('<')); }

const EmbeddedFile& file_with(const std::string& base) {
  static const auto files = [] {
    std::unordered_map<std::string, const EmbeddedFile*> by_kernel;
    for (auto* file = tstrain_cuda_files; file->name; file++)
      for (auto& kernel : source_of(*file).kernels()) by_kernel[base_of(kernel)] = file;
    return by_kernel;
  }();
  auto found = files.find(base);
  if (found == files.end()) throw OpError("no .cu file has a kernel " + base);
  return *found->second;
}

const Module& module_of(const EmbeddedFile& file) {
  static std::unordered_map<std::string, Module> loaded;
  auto found = loaded.find(file.name);
  if (found == loaded.end()) found = loaded.emplace(file.name, load(file)).first;
  return found->second;
}

}  // namespace

const Kernel& kernel(const char* name, std::initializer_list<DType> types) {
  // By their own names. A step asks thousands of times: what is known is found without taking memory.
  static std::unordered_map<std::string_view, std::unique_ptr<Kernel>> known;
  char text[128];
  size_t length = 0;
  auto append = [&](const char* part) {
    while (*part && length < sizeof text) text[length++] = *part++;
  };
  append(name);
  const char* before = "<";
  for (DType type : types) {
    append(before);
    append(type_name(type));
    before = ",";
  }
  if (types.size() > 0) append(">");
  auto found = known.find({text, length});
  if (found != known.end()) return *found->second;
  std::string full(text, length);
  auto& file = file_with(base_of(full));
  auto& module = module_of(file);
  auto in_code = module.names.find(full);
  if (in_code == module.names.end()) throw OpError(std::string(file.name) + ".cu has no kernel " + full);
  auto k = std::make_unique<Kernel>(Kernel{full});
  check(driver().cuModuleGetFunction(&k->function, module.module, in_code->second.c_str()),
        ("looking for the kernel " + full).c_str());
  return *known.emplace(k->name, std::move(k)).first->second;
}

void launch_raw(const Context& context, const Kernel& kernel, const Grid& grid, void** arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  auto& d = driver();
  if (grid.shared > kernel.shared) {
    check(d.cuFuncSetAttribute(kernel.function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, int(grid.shared)),
          ("launching " + kernel.name + " with " + std::to_string(grid.shared) + " bytes of shared memory").c_str());
    kernel.shared = grid.shared;
  }
  CUresult result =
      d.cuLaunchKernel(kernel.function, unsigned(grid.x), unsigned(grid.y), unsigned(grid.z), unsigned(grid.threads), 1,
                       1, unsigned(grid.shared), static_cast<CUstream>(context.stream), arguments, nullptr);
  // A step launches thousands: words are made when there is something to say.
  if (result != CUDA_SUCCESS) check(result, ("launching " + kernel.name).c_str());
  launched(kernel.name);
}

std::string kernels_come_from() {
  auto lacks = compiler_lacks();
  // What the driver takes is known when it has been asked.
  try {
    module_of(tstrain_cuda_files[0]);
  } catch (const OpError& e) {
    return std::string("not made: ") + e.what();
  }
  auto& n = nvrtc();
  if (lacks.empty())
    return "compiled for " + architecture() + " by NVRTC " + std::to_string(n.major) + "." + std::to_string(n.minor) +
           (refused.empty() ? "" : ": " + refused);
  return "compiled by the driver from PTX for compute_80 (" + lacks + ")";
}

}  // namespace tstrain::cuda
