// Signals wait until an op is done.
//
// oneDNN's sgemm kernels use the stack pointer as a general register while they run. A signal handler would then be put
// on "the stack" in the middle of somebody's data: Ctrl-C, a resized terminal or a profiler would corrupt the heap.
// Threads that OpenMP starts meanwhile inherit the mask and keep it, so that no handler ever runs on them.
#pragma once
#include <pthread.h>
#include <signal.h>

namespace tstrain {

class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    // Faults of the code itself must not wait.
    for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&all, fault);
    pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;

 private:
  sigset_t before_;
};

}  // namespace tstrain
