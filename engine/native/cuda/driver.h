// NVIDIA's driver API, as much of it as is used here: declared anew, since no header of CUDA's is needed to build, and
// found at run time in libcuda.so.1, since most machines have none.
//
// Names, values and meanings are those of the CUDA driver API reference. Functions that carry a version in the library
// (cuMemAlloc_v2) carry it here.
#pragma once
#include <cstddef>
#include <string>

namespace tstrain::cuda {

using CUresult = int;  // 0: success
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct CUctx_st*;
using CUstream = struct CUstream_st*;
using CUevent = struct CUevent_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = struct CUfunc_st*;
using CUgraph = struct CUgraph_st*;
using CUgraphExec = struct CUgraphExec_st*;
using CUmemGenericAllocationHandle = unsigned long long;

constexpr CUresult CUDA_SUCCESS = 0, CUDA_ERROR_OUT_OF_MEMORY = 2, CUDA_ERROR_NO_DEVICE = 100,
                   CUDA_ERROR_INVALID_IMAGE = 200, CUDA_ERROR_NO_BINARY_FOR_GPU = 209, CUDA_ERROR_INVALID_PTX = 218,
                   CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222, CUDA_ERROR_NOT_READY = 600, CUDA_ERROR_LAUNCH_FAILED = 719,
                   CUDA_ERROR_NOT_SUPPORTED = 801;

enum CUdevice_attribute : int {
  CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
  CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97,
  CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED = 102,
};

constexpr int CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;
constexpr int CU_STREAM_CAPTURE_MODE_RELAXED = 2;
constexpr unsigned CU_STREAM_NON_BLOCKING = 1, CU_EVENT_DISABLE_TIMING = 2, CU_MEMHOSTALLOC_PORTABLE = 1;

// A physical allocation on a device (CUmemAllocationProp), and who may access a range (CUmemAccessDesc).
struct CUmemLocation {
  int type;  // 1: a device
  int id;
};
struct CUmemAllocationProp {
  int type;  // 1: pinned
  int requestedHandleTypes;
  CUmemLocation location;
  void* win32HandleMetaData;
  struct {
    unsigned char compressionType, gpuDirectRDMACapable;
    unsigned short usage;
    unsigned char reserved[4];
  } allocFlags;
};
struct CUmemAccessDesc {
  CUmemLocation location;
  int flags;  // 3: read and write
};

// FUNCTION(result, name, parameters)
#define TSTRAIN_CUDA_FUNCTIONS(FUNCTION)                                                                              \
  FUNCTION(cuInit, (unsigned flags))                                                                                  \
  FUNCTION(cuDriverGetVersion, (int* version))                                                                        \
  FUNCTION(cuGetErrorName, (CUresult error, const char** name))                                                       \
  FUNCTION(cuGetErrorString, (CUresult error, const char** text))                                                     \
  FUNCTION(cuDeviceGetCount, (int* count))                                                                            \
  FUNCTION(cuDeviceGet, (CUdevice * device, int ordinal))                                                             \
  FUNCTION(cuDeviceGetName, (char* name, int length, CUdevice device))                                                \
  FUNCTION(cuDeviceGetAttribute, (int* value, CUdevice_attribute attribute, CUdevice device))                         \
  FUNCTION(cuDeviceTotalMem_v2, (std::size_t* bytes, CUdevice device))                                                \
  FUNCTION(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                                          \
  FUNCTION(cuCtxSetCurrent, (CUcontext context))                                                                      \
  FUNCTION(cuMemGetInfo_v2, (std::size_t* free, std::size_t* total))                                                  \
  FUNCTION(cuMemAlloc_v2, (CUdeviceptr * start, std::size_t bytes))                                                   \
  FUNCTION(cuMemFree_v2, (CUdeviceptr start))                                                                         \
  FUNCTION(cuMemHostAlloc, (void** start, std::size_t bytes, unsigned flags))                                         \
  FUNCTION(cuMemFreeHost, (void* start))                                                                              \
  FUNCTION(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void* from, std::size_t bytes, CUstream stream))              \
  FUNCTION(cuMemcpyDtoHAsync_v2, (void* to, CUdeviceptr from, std::size_t bytes, CUstream stream))                    \
  FUNCTION(cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream))              \
  FUNCTION(cuMemsetD8Async, (CUdeviceptr to, unsigned char value, std::size_t bytes, CUstream stream))                \
  FUNCTION(cuMemAddressReserve, (CUdeviceptr * start, std::size_t bytes, std::size_t alignment, CUdeviceptr near,     \
                                 unsigned long long flags))                                                           \
  FUNCTION(cuMemAddressFree, (CUdeviceptr start, std::size_t bytes))                                                  \
  FUNCTION(cuMemGetAllocationGranularity, (std::size_t* bytes, const CUmemAllocationProp* kind, int recommended))     \
  FUNCTION(cuMemCreate, (CUmemGenericAllocationHandle * memory, std::size_t bytes, const CUmemAllocationProp* kind,   \
                         unsigned long long flags))                                                                   \
  FUNCTION(cuMemRelease, (CUmemGenericAllocationHandle memory))                                                       \
  FUNCTION(cuMemMap, (CUdeviceptr start, std::size_t bytes, std::size_t offset, CUmemGenericAllocationHandle memory,  \
                      unsigned long long flags))                                                                      \
  FUNCTION(cuMemUnmap, (CUdeviceptr start, std::size_t bytes))                                                        \
  FUNCTION(cuMemSetAccess, (CUdeviceptr start, std::size_t bytes, const CUmemAccessDesc* access, std::size_t count))  \
  FUNCTION(cuStreamCreate, (CUstream * stream, unsigned flags))                                                       \
  FUNCTION(cuStreamSynchronize, (CUstream stream))                                                                    \
  FUNCTION(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags))                                       \
  FUNCTION(cuEventCreate, (CUevent * event, unsigned flags))                                                          \
  FUNCTION(cuEventRecord, (CUevent event, CUstream stream))                                                           \
  FUNCTION(cuEventSynchronize, (CUevent event))                                                                       \
  FUNCTION(cuEventQuery, (CUevent event))                                                                             \
  FUNCTION(cuEventElapsedTime, (float* milliseconds, CUevent from, CUevent to))                                       \
  FUNCTION(cuEventDestroy_v2, (CUevent event))                                                                        \
  FUNCTION(cuModuleLoadData, (CUmodule * module, const void* image))                                                  \
  FUNCTION(cuModuleGetFunction, (CUfunction * function, CUmodule module, const char* name))                           \
  FUNCTION(cuFuncSetAttribute, (CUfunction function, int attribute, int value))                                       \
  FUNCTION(cuLaunchKernel, (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, \
                            unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream,               \
                            void** arguments, void** extra))                                                          \
  FUNCTION(cuStreamBeginCapture_v2, (CUstream stream, int mode))                                                      \
  FUNCTION(cuStreamEndCapture, (CUstream stream, CUgraph * graph))                                                    \
  FUNCTION(cuGraphInstantiateWithFlags, (CUgraphExec * ready, CUgraph graph, unsigned long long flags))               \
  FUNCTION(cuGraphLaunch, (CUgraphExec ready, CUstream stream))                                                       \
  FUNCTION(cuGraphExecDestroy, (CUgraphExec ready))                                                                   \
  FUNCTION(cuGraphDestroy, (CUgraph graph))

struct Driver {
#define TSTRAIN_MEMBER(name, parameters) CUresult(*name) parameters;
  TSTRAIN_CUDA_FUNCTIONS(TSTRAIN_MEMBER)
#undef TSTRAIN_MEMBER

  // What keeps this machine from computing on a card, in words for a person; empty when nothing does. If not empty, only
  // that may be asked.
  std::string missing;
  std::string path;  // of the library, or its name
  int version = 0;   // of the driver: 12040 is CUDA 12.4
  CUdevice device = 0;
  std::string card;             // its name
  int major = 0, minor = 0;     // its compute capability
  std::size_t total_bytes = 0;  // its memory
};

// Loads the library and looks for a card, at the first call.
const Driver& driver();

// Throws OpError when `result` is not CUDA_SUCCESS: what was done, the error's name and text.
void check(CUresult result, const char* what);

}  // namespace tstrain::cuda
