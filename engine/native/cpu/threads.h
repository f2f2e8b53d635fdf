// How many threads kernels, their workspaces and oneDNN cut work up by.
#pragma once

namespace tstrain {

int thread_count();
// Throws OpError when OpenMP does not grant so many.
void set_thread_count(int n);

}  // namespace tstrain
