// The CPU as a device.
#pragma once
#include "../device.h"
#include "../ops.h"

namespace tstrain {

extern const DeviceKind cpu_device;

// The kernels of one instruction set. Each is compiled once per instruction set; this processor runs the best it can.
struct CpuKernels {
  const char* instruction_set;
  OpTable ops;
};
extern const CpuKernels cpu_kernels_sse, cpu_kernels_avx2, cpu_kernels_avx512;

// TSTRAIN_ISA=sse|avx2|avx512 asks for a lower one (to compare, to debug).
const CpuKernels& cpu_kernels();

extern const WorkspaceTable cpu_workspaces;

Memory& cpu_memory();

// Bytes. Vectors and cache lines are shorter; it keeps what two threads write apart.
constexpr i64 kCpuAlignment = 256;

}  // namespace tstrain
