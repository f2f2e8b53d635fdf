// NVRTC, the compiler of kernels, which a toolkit or a PyPI wheel brings. Where it is missing the committed PTX serves.
#pragma once
#include <map>
#include <string>
#include <vector>

namespace tstrain::cuda {

// Kernels in a form that a driver takes.
struct Compiled {
  std::string ptx;
  std::string machine_code;                  // empty for a virtual architecture (compute_80)
  std::map<std::string, std::string> names;  // "rope<float>" → its name in the code
};

struct Nvrtc {
  std::string missing;  // why there is none, in words for a person; empty when there is one
  std::string path;
  int major = 0, minor = 0;
  std::vector<int> architectures;  // that it compiles for: 80, 86, …
};

// Looked for at the first call, to go with the driver if there is one (see sonames()).
const Nvrtc& nvrtc();

// A file of kernels: rope for rope.cu.
struct Source {
  std::string name;
  std::string text;
  std::string header;  // on_card.h
  // As its KERNELS list has them: "rope<float>", …
  std::vector<std::string> kernels() const;
};

// Compiles for "sm_80", or "compute_80". `options` come last; what the compiler says goes to `log`, if given. Throws
// OpError with what it says when it refuses.
Compiled compile(const Source& source, const std::string& architecture, const std::vector<std::string>& options = {},
                 std::string* log = nullptr);

// What a cache's key must hold besides source and architecture.
std::string compiler_options();

// PTX as files keep it: with the names of its kernels in comments in front.
std::string with_names(const Compiled& compiled);
Compiled from_file(const std::string& ptx);

}  // namespace tstrain::cuda
