// Every op does nothing. Contracts (checks, FLOPs) and the workspace that a device needs are asked for before an op on
// any device, so a plan counts exactly what the device takes.
#include "meta.h"

namespace tstrain {
namespace {
template <class... A>
void nothing(const Context&, A...) {}
}  // namespace

const OpTable meta_table = {
#define TSTRAIN_NOTHING(name, parameters, ...) nothing,
    TSTRAIN_OPS(TSTRAIN_NOTHING)
#undef TSTRAIN_NOTHING
};

}  // namespace tstrain
