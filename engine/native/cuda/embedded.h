// The files of kernels, which the addon carries: their sources, and the PTX that was made of them in advance. The Makefile
// puts them there.
#pragma once

namespace tstrain::cuda {

struct EmbeddedFile {
  const char *name, *source;  // "rope", and the text of rope.cu
  const char* ptx;            // for compute_80, by the oldest NVRTC that is supported; null where there is none
};

// Up to one without a name.
extern "C" const EmbeddedFile tstrain_cuda_files[];
extern "C" const char tstrain_cuda_header[];  // on_card.h

}  // namespace tstrain::cuda
