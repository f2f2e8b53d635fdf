#include "kernel_cache.h"

#include <cstdlib>

#include "disk_cache.h"

namespace tstrain::cuda {

namespace {

std::string name_kept(const Source& source, const std::string& architecture) {
  auto& n = nvrtc();
  std::string key = source.text + '\0' + source.header + '\0' + compiler_options() + std::to_string(n.major) + "." +
                    std::to_string(n.minor);
  return source.name + "-" + architecture + "-" + digest(key);
}

}  // namespace

// The length of the PTX; the PTX with its names; the machine code.
bool read_cache(const Source& source, const std::string& architecture, Compiled& compiled) {
  auto kept = read_kept(name_kept(source, architecture));
  if (!kept) return false;
  size_t line = kept->find('\n');
  if (line == std::string::npos) return false;
  size_t length = std::strtoull(kept->c_str(), nullptr, 10);
  compiled = from_file(kept->substr(line + 1, length));
  compiled.machine_code = kept->substr(line + 1 + length);
  return true;
}

void write_cache(const Source& source, const std::string& architecture, const Compiled& compiled) {
  std::string ptx = with_names(compiled);
  keep(name_kept(source, architecture), std::to_string(ptx.size()) + "\n" + ptx + compiled.machine_code);
}

}  // namespace tstrain::cuda
