#include "cuda.h"

#include "card.h"
#include "launch.h"

namespace tstrain {

namespace {

const OpTable& ops() {
  static const OpTable table = {
#define TSTRAIN_ENTRY(name, parameters, ...) cuda::name,
      TSTRAIN_OPS(TSTRAIN_ENTRY)
#undef TSTRAIN_ENTRY
  };
  return table;
}

std::string missing() { return cuda::driver().missing; }

i64 no_slack(DType, i64, i64) { return 0; }

}  // namespace

const DeviceKind cuda_device = {"cuda", missing, ops, &cuda::workspaces, cuda::kAlignment, 1, no_slack, cuda::memory};

}  // namespace tstrain
