// The CPU kernels of one instruction set, as the op table names them.
#pragma once
#include "../ops.h"

namespace tstrain::TSTRAIN_ISA {

#define TSTRAIN_DECLARE(name, parameters, ...) WithContext<void parameters>::type name;
TSTRAIN_OPS(TSTRAIN_DECLARE)
#undef TSTRAIN_DECLARE

}  // namespace tstrain::TSTRAIN_ISA
