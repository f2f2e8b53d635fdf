#include "kernels.h"

#define TSTRAIN_STRING2(x) #x
#define TSTRAIN_STRING(x) TSTRAIN_STRING2(x)
#define TSTRAIN_TABLE2(isa) cpu_table_##isa
#define TSTRAIN_TABLE(isa) TSTRAIN_TABLE2(isa)

namespace tstrain {

const OpTable TSTRAIN_TABLE(TSTRAIN_ISA) = {
    TSTRAIN_STRING(TSTRAIN_ISA),
#define TSTRAIN_ENTRY(name, parameters, ...) TSTRAIN_ISA::name,
    TSTRAIN_OPS(TSTRAIN_ENTRY)
#undef TSTRAIN_ENTRY
};

}  // namespace tstrain
