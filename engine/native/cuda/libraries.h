// Where NVIDIA's libraries lie on this machine. None is needed to build; each is looked for when it is first wanted.
#pragma once
#include <string>
#include <vector>

namespace tstrain::cuda {

struct Library {
  void* handle = nullptr;  // as of dlopen; never closed, since such libraries do not survive that
  std::string path;
  std::string missing;  // why there is none, in words for a person; empty when there is one

  // The address of a function. Where there is none, null, and `missing` says so.
  void* function(const char* name);
};

// The sonames a library of the toolkit has, `base`.so.13 and so on: first those of the driver's own major version, newest
// first, for what is newer than its driver may be refused by it. `driver`: 12080 is CUDA 12.8.
std::vector<std::string> sonames(const std::string& base, int driver);

// Opens the first of `names` that is found and loads: in the directories of TSTRAIN_CUDA_PATH (separated by colons) and
// only there if that is set; else where the loader looks, in a virtual environment or beside CUDA_HOME, CUDA_PATH and
// CONDA_PREFIX, and in /usr/local/cuda*. Such a directory may be one of libraries, a toolkit (lib64, lib) or a Python
// environment (nvidia/*/lib in its site-packages).
Library open_library(const std::vector<std::string>& names);

// The driver's, which comes with it and never from a toolkit.
Library open_driver();

}  // namespace tstrain::cuda
