#include "threads.h"

#include <omp.h>

#include <string>

#include "../block_signals.h"
#include "../tensor.h"

namespace tstrain {

namespace {
int requested_threads = 1;
}  // namespace

int thread_count() { return requested_threads; }

// If OpenMP ran fewer threads than the count that is set (OMP_THREAD_LIMIT, OMP_MAX_ACTIVE_LEVELS, OMP_DYNAMIC), oneDNN
// would leave out the parts of those that are missing.
void set_thread_count(int n) {
  BlockSignals in_new_threads;
  omp_set_dynamic(0);
  omp_set_num_threads(n);
  int granted = 1;
#pragma omp parallel
#pragma omp single
  granted = omp_get_num_threads();
  if (granted != n) {
    omp_set_num_threads(thread_count());
    throw OpError(
        "OpenMP grants " + std::to_string(granted) + " of " + std::to_string(n) +
        " threads (OMP_THREAD_LIMIT and OMP_MAX_ACTIVE_LEVELS bound them); ask for no more than that by `threads` "
        "or TSTRAIN_NUM_THREADS");
  }
  requested_threads = n;
}

}  // namespace tstrain
