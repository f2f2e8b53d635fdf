#include "cpu.h"
#include "kernels.h"

#define TSTRAIN_STRING2(x) #x
#define TSTRAIN_STRING(x) TSTRAIN_STRING2(x)
#define TSTRAIN_KERNELS2(isa) cpu_kernels_##isa
#define TSTRAIN_KERNELS(isa) TSTRAIN_KERNELS2(isa)

namespace tstrain {

namespace {
constexpr OpTable ops = {
#define TSTRAIN_ENTRY(name, parameters, ...) TSTRAIN_ISA::name,
    TSTRAIN_OPS(TSTRAIN_ENTRY)
#undef TSTRAIN_ENTRY
};
}  // namespace

const CpuKernels TSTRAIN_KERNELS(TSTRAIN_ISA) = {TSTRAIN_STRING(TSTRAIN_ISA), ops};

}  // namespace tstrain
