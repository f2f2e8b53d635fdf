// What the simulated libcuda.so.1 offers beside the driver's own functions: to the simulated libcublasLt.so, which finds
// them by dlsym in the libcuda.so.1 that is loaded, or is linked with it.
//
// An address on the simulated card is an address of this process: once cudasim_check_range has said 0 it may be read and
// written as any memory.
#pragma once
#include <cstddef>

extern "C" {

// Queues run(data) behind what the stream (a CUstream; null: the default one) holds. It happens when somebody waits for
// the stream, on the thread that waits, and never when the context has failed before its turn; again each time that a
// graph is launched which has it. release(data) comes after the last time.
// Returns a CUresult: that of the failure if the context has failed already, and data is still the caller's.
int cudasim_enqueue(void* stream, void (*run)(const void*), void* data, void (*release)(void*));

// Inside run: 0 when [start, start + bytes) lies in live memory of the card, all mapped; otherwise says on stderr what
// `who` wanted of which address, and the context has failed (CUDA_ERROR_ILLEGAL_ADDRESS): run must return without
// touching it. `write` is 1 for what will be written.
int cudasim_check_range(unsigned long long start, std::size_t bytes, int write, const char* who);

// The simulated card: 80, 86, 89, 90, 100 or 120.
int cudasim_arch();

}  // extern "C"
