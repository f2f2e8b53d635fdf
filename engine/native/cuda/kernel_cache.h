// Compiled kernels on disk, so that a card's are compiled once: $XDG_CACHE_HOME/tstrain/cuda, by default ~/.cache.
#pragma once
#include "nvrtc.h"

namespace tstrain::cuda {

// What has been compiled of this source with this compiler for this architecture, or false.
bool read_cache(const Source& source, const std::string& architecture, Compiled& compiled);

// A cache that cannot be written is none: kernels are then compiled in each process.
void write_cache(const Source& source, const std::string& architecture, const Compiled& compiled);

}  // namespace tstrain::cuda
