#include "disk_cache.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace tstrain::cuda {

namespace {

namespace fs = std::filesystem;

// Empty where there is no place for a cache.
fs::path file_of(const std::string& name) {
  const char *xdg = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  if (xdg && *xdg) return fs::path(xdg) / "tstrain/cuda" / name;
  return home && *home ? fs::path(home) / ".cache/tstrain/cuda" / name : fs::path();
}

}  // namespace

std::string digest(const std::string& text) {
  unsigned long long hash = 14695981039346656037ull;
  for (unsigned char c : text) hash = (hash ^ c) * 1099511628211ull;
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx", hash);
  return hex;
}

// A file holds the digest of the rest, and the rest.
std::optional<std::string> read_kept(const std::string& name) {
  fs::path path = file_of(name);
  std::ifstream in(path, std::ios::binary);
  if (path.empty() || !in) return std::nullopt;
  std::string all{std::istreambuf_iterator<char>(in), {}};
  size_t line = all.find('\n');
  if (line == std::string::npos || all.substr(0, line) != digest(all.substr(line + 1))) return std::nullopt;
  return all.substr(line + 1);
}

void keep(const std::string& name, const std::string& text) {
  fs::path path = file_of(name);
  if (path.empty()) return;
  std::error_code failed;
  fs::create_directories(path.parent_path(), failed);
  if (failed) return;
  // Aside first: another process may read it now.
  fs::path aside = path;
  aside += "." + std::to_string(getpid()) + ".tmp";
  std::ofstream out(aside, std::ios::binary);
  out << digest(text) << "\n" << text;
  out.close();
  if (out) fs::rename(aside, path, failed);
  if (!out || failed) fs::remove(aside, failed);
}

}  // namespace tstrain::cuda
