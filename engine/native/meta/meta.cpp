// The meta device: every op does nothing. Contracts (checks, FLOPs, workspace) run before an op on any device, so
// a pass over `meta` counts exactly what the real one takes.
#include "../ops.h"

namespace tstrain {
namespace {
template <class... A>
void nothing(const Context&, A...) {}
}  // namespace

const OpTable meta_table = {
    "meta",
#define TSTRAIN_NOTHING(name, parameters, ...) nothing,
    TSTRAIN_OPS(TSTRAIN_NOTHING)
#undef TSTRAIN_NOTHING
};

}  // namespace tstrain
