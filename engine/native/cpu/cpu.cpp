#include "cpu.h"

#include <cstdlib>
#include <cstring>

#include "onednn.h"
#include "threads.h"

namespace tstrain {

namespace {
std::string nothing() { return ""; }

std::string description(DType products) {
  int threads = thread_count();
  std::string onednn = onednn_version(), words = std::to_string(threads) + (threads == 1 ? " thread, " : " threads, ");
  words += std::string(cpu_kernels().instruction_set) + ", GEMM by ";
  words += onednn.empty() ? "the built-in kernels (no oneDNN)" : "oneDNN " + onednn;
  if (products == DType::bf16 && bf16_gemm() == Bf16Gemm::float32)
    words += "; this processor has no bf16 instructions: bf16 products are computed in float32";
  return words;
}

const OpTable& ops() { return cpu_kernels().ops; }
}  // namespace

const DeviceKind cpu_device = {"cpu",    nothing, ops,       &cpu_workspaces, kCpuAlignment,
                               kRowStep, false,   row_slack, cpu_memory,      description};

const CpuKernels& cpu_kernels() {
  const char* wanted = std::getenv("TSTRAIN_ISA");
  auto allowed = [&](const char* isa, bool runs) { return runs && (!wanted || !std::strcmp(wanted, isa)); };
  // What the compiler may use for x86-64-v3 and -v4; a virtual machine can hide parts of it.
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
              __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("movbe") &&
              __builtin_cpu_supports("f16c");
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512vl");
  if (allowed("avx512", avx512)) return cpu_kernels_avx512;
  if (allowed("avx2", avx2)) return cpu_kernels_avx2;
  if (allowed("sse", true)) return cpu_kernels_sse;
  throw OpError(std::string("TSTRAIN_ISA=") + wanted + ": this processor runs " + (avx512 ? "avx512, " : "") +
                (avx2 ? "avx2, " : "") + "sse");
}

}  // namespace tstrain
