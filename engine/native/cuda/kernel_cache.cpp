#include "kernel_cache.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace tstrain::cuda {

namespace {

namespace fs = std::filesystem;

fs::path directory() {
  const char *xdg = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  if (xdg && *xdg) return fs::path(xdg) / "tstrain/cuda";
  return home && *home ? fs::path(home) / ".cache/tstrain/cuda" : fs::path();
}

// FNV-1a: tells versions of sources apart, and whole files from broken ones. Nobody plans collisions here.
std::string digest(const std::string& text) {
  unsigned long long hash = 14695981039346656037ull;
  for (unsigned char c : text) hash = (hash ^ c) * 1099511628211ull;
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx", hash);
  return hex;
}

// Empty where there is no place for a cache.
fs::path file_of(const Source& source, const std::string& architecture) {
  auto& n = nvrtc();
  std::string key = source.text + '\0' + source.header + '\0' + compiler_options() + std::to_string(n.major) + "." +
                    std::to_string(n.minor);
  fs::path place = directory();
  return place.empty() ? place : place / (source.name + "-" + architecture + "-" + digest(key));
}

}  // namespace

// A file holds: the digest of the rest; the length of the PTX; the PTX with its names; the machine code.
bool read_cache(const Source& source, const std::string& architecture, Compiled& compiled) {
  fs::path path = file_of(source, architecture);
  std::ifstream in(path, std::ios::binary);
  if (path.empty() || !in) return false;
  std::string all{std::istreambuf_iterator<char>(in), {}};
  size_t first = all.find('\n');
  if (first == std::string::npos || all.substr(0, first) != digest(all.substr(first + 1))) return false;
  size_t second = all.find('\n', first + 1);
  if (second == std::string::npos) return false;
  size_t length = std::strtoull(all.c_str() + first + 1, nullptr, 10);
  compiled = from_file(all.substr(second + 1, length));
  compiled.machine_code = all.substr(second + 1 + length);
  return true;
}

void write_cache(const Source& source, const std::string& architecture, const Compiled& compiled) {
  fs::path path = file_of(source, architecture);
  if (path.empty()) return;
  std::error_code failed;
  fs::create_directories(path.parent_path(), failed);
  if (failed) return;
  std::string ptx = with_names(compiled);
  std::string rest = std::to_string(ptx.size()) + "\n" + ptx + compiled.machine_code;
  // Aside first: another process may read it now.
  fs::path aside = path;
  aside += "." + std::to_string(getpid()) + ".tmp";
  std::ofstream out(aside, std::ios::binary);
  out << digest(rest) << "\n" << rest;
  out.close();
  if (out) fs::rename(aside, path, failed);
  if (!out || failed) fs::remove(aside, failed);
}

}  // namespace tstrain::cuda
