// The card in use: its context and streams, and what a failure on it means.
#pragma once
#include "../ops.h"
#include "driver.h"

namespace tstrain::cuda {

struct Card {
  CUcontext context = nullptr;
  CUstream compute = nullptr;  // ops
  CUstream copy = nullptr;     // copies between host and card, in step with the ops by events
};

// Opens it at the first call. Throws OpError where driver().missing says why there is none.
const Card& card();

// Waits for a stream. A kernel that failed is only heard of now: the error names those that ran since the last wait.
void wait_for(CUstream stream);

// Whether an event has been reached. Errors as in wait_for().
bool reached(CUevent event);

// A kernel of this name, which stays where it is, was queued. With CUDA_LAUNCH_BLOCKING=1 it is waited for, so that an
// error is its own.
void launched(const std::string& kernel);
bool launch_blocking();

Memory& memory();

extern const WorkspaceTable workspaces;

// Bytes. cuBLASLt's fast algorithms and 128-bit loads want it.
constexpr i64 kAlignment = 256;

}  // namespace tstrain::cuda
