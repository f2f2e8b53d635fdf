// What the compute stream is asked to do, as a CUDA graph: hundreds of kernels that the card starts by itself, one after
// the other, at one call of the host's.
#pragma once
#include "../repeats.h"

namespace tstrain::cuda {

// Not with TSTRAIN_CUDA_GRAPHS=0, and not where somebody waits for each kernel (CUDA_LAUNCH_BLOCKING=1).
bool records();

// From now on kernels are recorded, and not run.
void begin_recording();
// Null where what was recorded is not wanted.
std::unique_ptr<Recording> end_recording(bool wanted);

}  // namespace tstrain::cuda
