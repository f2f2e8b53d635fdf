// What this machine has found out once, on its disk: $XDG_CACHE_HOME/tstrain/cuda, by default ~/.cache.
#pragma once
#include <optional>
#include <string>

namespace tstrain::cuda {

// FNV-1a: tells versions of texts apart, and whole files from broken ones. Nobody plans collisions here.
std::string digest(const std::string& text);

// What was kept under that name; nothing where that file is missing or not whole.
std::optional<std::string> read_kept(const std::string& name);

// A cache that cannot be written is none: what is in it is then found out by each process.
void keep(const std::string& name, const std::string& text);

}  // namespace tstrain::cuda
