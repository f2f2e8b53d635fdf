// Compiled kernels on disk, so that a card's are compiled once.
#pragma once
#include "nvrtc.h"

namespace tstrain::cuda {

// What has been compiled of this source with this compiler for this architecture, or false.
bool read_cache(const Source& source, const std::string& architecture, Compiled& compiled);

void write_cache(const Source& source, const std::string& architecture, const Compiled& compiled);

}  // namespace tstrain::cuda
