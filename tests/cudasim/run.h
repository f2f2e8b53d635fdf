// Runs a launch: its blocks one after the other in random order, a fibre a thread.
#pragma once
#include <string>

#include "module.h"
#include "ptx.h"

namespace cudasim {

struct Launch {
  Kernel* kernel;
  Dim grid, block;
  u32 dynamic_bytes;
  std::string parameters;
};

// A CUresult: what was wrong has been said on stderr.
int run(const Launch& launch);

// The most shared memory of a block that the card has.
u32 most_shared_bytes();

}  // namespace cudasim
